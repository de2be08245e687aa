import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srpo_fast import torchvision_shim  # noqa: F401

# isort: split
from transformers import Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

from srpo_fast.positions import continue_positions, mrope_positions

TEXT, VISION_START, IMAGE, VISION_END = 1, 2, 3, 4
MERGE = 2


@pytest.fixture(scope="module")
def upstream() -> Qwen2_5_VLModel:
    """transformers' model without weights: its positions need the config alone."""
    text = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0}
    with torch.device("meta"):
        return Qwen2_5_VLModel(
            Qwen2_5_VLConfig(text_config={**text, "num_hidden_layers": 1}, vision_config={"depth": 1})
        )


def make_prompt(lead: int, images: list[tuple[int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and grids: `lead` text tokens, then images of (rows, columns, text after), in merged patches."""
    ids = [TEXT] * lead
    for rows, columns, after in images:
        ids += [VISION_START, *[IMAGE] * (rows * columns), VISION_END, *[TEXT] * after]
    grid = torch.tensor([(1, MERGE * rows, MERGE * columns) for rows, columns, _ in images], dtype=torch.int64)
    return torch.tensor(ids), grid.reshape(-1, 3)


def positions_of(token_ids: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return mrope_positions(token_ids, grid, image_token_id=IMAGE, merge_size=MERGE)


image = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(0, 4))


@given(
    lead=st.integers(1, 5),
    images=st.sampled_from([0, 1, 2, 5]).flatmap(lambda n: st.lists(image, min_size=n, max_size=n)),
)
@settings(max_examples=200, deadline=None)
def test_positions_are_those_of_transformers(upstream, lead, images):
    token_ids, grid = make_prompt(lead, images)
    expected, _ = upstream.get_rope_index(token_ids[None], (token_ids == IMAGE)[None].int(), grid)
    assert torch.equal(positions_of(token_ids, grid), expected[:, 0])


@given(lead=st.integers(1, 5), images=st.lists(image, max_size=3), n=st.integers(0, 6))
@settings(max_examples=50, deadline=None)
def test_a_completion_continues_as_in_transformers(upstream, lead, images, n):
    token_ids, grid = make_prompt(lead, images)
    whole = torch.cat([token_ids, torch.full((n,), TEXT)])
    expected, _ = upstream.get_rope_index(whole[None], (whole == IMAGE)[None].int(), grid)
    positions = positions_of(token_ids, grid)
    assert torch.equal(torch.cat([positions, continue_positions(positions, n)], dim=1), expected[:, 0])


def test_positions_by_hand():
    token_ids, grid = make_prompt(1, [(2, 3, 1)])
    assert positions_of(token_ids, grid).tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]


def test_an_image_cut_short_is_refused():
    token_ids, grid = make_prompt(1, [(2, 3, 0)])
    with pytest.raises(ValueError, match="never cut a prompt inside an image"):
        positions_of(token_ids[:-3], grid)


def test_image_tokens_split_by_text_are_refused():
    with pytest.raises(ValueError, match="interrupted by text"):
        positions_of(torch.tensor([TEXT, IMAGE, TEXT, IMAGE]), torch.tensor([[1, 2, 4]]))


def test_a_video_is_refused():
    with pytest.raises(ValueError, match="videos are not supported"):
        positions_of(torch.tensor([TEXT, IMAGE, IMAGE]), torch.tensor([[2, 2, 2]]))
