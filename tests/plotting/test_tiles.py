"""Tiles are the pictures themselves, to the 8-bit value, and are found again as they were."""

import numpy as np
import pytest
from PIL import Image

from faig_lab.plotting.pictures import PictureRow, Pictures, Tile, read_tiles, write_tiles


def pictures(size, truth=None):
    rng = np.random.default_rng(0)
    image = rng.random((size, size, 3))
    tiles = {"input": Tile(image[::2, ::2]), "target": Tile(image, 28.25), "ground truth": Tile(image)}
    return Pictures("blur", [PictureRow("a_1", tiles), PictureRow("b_2", tiles)], truth)


def test_rows_are_read_back_in_order(tmp_path):
    write_tiles(tmp_path, "before_after_blur", pictures(32), 64)
    rows = read_tiles(tmp_path, "before_after_blur")
    assert [row.name for row in rows] == ["a_1", "b_2"]
    assert [(tile.title, tile.psnr) for tile in rows[0].tiles] == [
        ("input", None), ("target", 28.25), ("ground truth", None),
    ]  # fmt: skip


def test_an_image_that_fits_is_kept_whole_and_exact(tmp_path):
    shown = pictures(32)
    write_tiles(tmp_path, "g", shown, 32)
    tiles = read_tiles(tmp_path, "g")[0].tiles
    assert len(tiles) == 3
    for tile in tiles:
        with Image.open(tile.path) as image:
            wanted = np.round(255 * shown.rows[0].tiles[tile.title].image)
            np.testing.assert_array_equal(np.asarray(image), wanted)


def test_a_large_image_is_cut_where_the_truth_has_most_detail(tmp_path):
    truth = np.zeros((64, 64, 3))
    truth[32:, 32:] = np.random.default_rng(1).random((32, 32, 3))
    write_tiles(tmp_path, "g", pictures(64, truth), 32)
    low, high, _ = read_tiles(tmp_path, "g")[0].tiles
    with Image.open(low.path) as image:
        assert image.size == (16, 16)
    with Image.open(high.path) as image:
        whole = np.round(255 * pictures(64).rows[0].tiles["target"].image)
        np.testing.assert_array_equal(np.asarray(image), whole[32:, 32:])


@pytest.mark.parametrize("name", ["absent", "before_after_blur"])
def test_no_grid_is_no_rows(tmp_path, name):
    assert read_tiles(tmp_path, name) == []
