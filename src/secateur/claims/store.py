"""placeholder until the claims land"""


def verdicts():
    return {}


def listing():
    return []
