"""One file per paper, in folders by what is pruned. `secateur methods` lists them."""
