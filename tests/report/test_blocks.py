"""What is printed of each block."""

from secateur.report.blocks import blocks_text

ROW = {"block": "layers.0", "units": 8, "kept": 4, "error_before": 0.25, "error": 0.125, "cpu_s": 1.26, "peak_mib": 300}


def test_a_row_tells_what_the_layers_lost():
    head, row, note = blocks_text([ROW]).splitlines()
    assert head.split() == ["block", "sparsity", "masked", "repaired", "cpu", "s", "peak", "MiB"]
    assert row.split() == ["layers.0", "50.00%", "0.2500", "0.1250", "1.3", "300"]
    assert note.startswith("masked, repaired: ")


def test_where_blocks_were_healed_it_also_tells_what_the_block_lost():
    healed = ROW | {"block": "layers.1", "output_error_before": 0.5, "output_error": 0.0625}
    head, plain, row, note = blocks_text([ROW, healed]).splitlines()
    assert head.split()[4:6] == ["pruned", "healed"]
    assert plain.split()[4:6] == ["-", "-"] and row.split()[4:6] == ["0.5000", "0.0625"]
    assert "pruned, healed: that of the block's output" in note


def test_a_block_without_errors_has_dashes():
    assert blocks_text([{k: v for k, v in ROW.items() if "error" not in k}]).splitlines()[1].split()[2:4] == ["-", "-"]
