"""Names in MLflow's filter strings: what is quoted how, and how many fit into a request."""

import ast
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.registry import filters

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(st.lists(names, min_size=1, max_size=5))
def test_a_list_of_names_is_a_python_literal_that_gives_them_back(wanted: list[str]) -> None:
    # The server reads the list with ast.literal_eval (mlflow/utils/search_utils.py).
    literal = filters.name_in(wanted).removeprefix("name IN ")
    read = ast.literal_eval(literal)
    assert (read if isinstance(read, tuple) else (read,)) == tuple(wanted)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("churn", 'name = "churn"'),
        ("it's", 'name = "it\'s"'),
        ('say "hi"', "name = 'say \"hi\"'"),
        ("both ' and \"", 'name LIKE "both \' and _"'),
        ("\\ ' \"", 'name LIKE "_ \' _"'),
    ],
)
def test_a_single_name_is_put_between_quotes_that_it_does_not_hold(
    name: str, expected: str
) -> None:
    assert filters.name_is(name) == expected


@given(st.lists(names, unique=True, max_size=400))
def test_chunks_keep_every_name_once_and_in_order(wanted: list[str]) -> None:
    assert [name for chunk in filters.chunks(wanted) for name in chunk] == wanted


@pytest.mark.parametrize("name", ["m{}", "漢" * 250 + "{}", "%" * 250 + "{}"])
def test_no_chunk_outgrows_a_request_line_unless_it_is_one_name(name: str) -> None:
    chunks = list(filters.chunks([name.format(n) for n in range(1000)]))
    assert all(len(chunk) <= 100 for chunk in chunks)
    for chunk in chunks:
        size = len(quote(filters.name_in(chunk), safe=""))
        assert size < 6_100 or len(chunk) == 1
    assert all(len(quote(filters.name_in(c), safe="")) < 8_000 for c in chunks)
