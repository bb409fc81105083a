"""Jobs in line: each once, in order, after the one that it needs."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from secateur.scale.waiting import Line

needs_lists = st.integers(0, 12).flatmap(
    lambda n: st.tuples(*[st.one_of(st.none(), st.integers(0, i - 1)) if i else st.none() for i in range(n)])
)


@given(needs_lists, st.integers(1, 4))
def test_every_job_is_handed_out_once_and_after_what_it_needs(needs, workers):
    line, taken, ended, lock = Line(needs), [], set(), threading.Lock()

    def work():
        while (job := line.take()) is not None:
            with lock:
                assert needs[job] is None or needs[job] in ended
                taken.append(job)
                ended.add(job)
            line.end(job)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(taken) == list(range(len(needs)))


def test_without_waiting_nothing_comes_before_what_it_needs_has_ended():
    line = Line([None, 0])
    assert (line.take(wait=False), line.take(wait=False)) == (0, None)
    line.end(0)
    assert line.take(wait=False) == 1


def test_a_job_whose_worker_died_is_next_in_line_until_its_attempts_are_used_up():
    line = Line([None, None], attempts=2)
    assert line.take() == 0 and line.again(0) and line.take() == 0
    assert not line.again(0)
    line.end(0)
    assert line.take() == 1


def test_a_closed_line_hands_out_nothing():
    line = Line([None])
    line.close()
    assert line.take() is None
