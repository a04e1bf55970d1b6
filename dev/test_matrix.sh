#!/usr/bin/env bash
# Runs the unit tests, those of a catalog in MySQL, and a whole migration with the locked versions on each Python of 3.11, 3.12
# and 3.13 that this machine has; then with the oldest versions that pyproject.toml allows, on the oldest Python, and with the
# newest, on the newest.
# ENVIRONMENTS="3.12 oldest" runs only these. The first failure ends it.
set -euo pipefail
uv=.venv/bin/uv
mkdir -p build/matrix

# The commands of pyenv refuse any version but its current one: its folders come first.
for folder in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin; do
    if [[ -d $folder ]]; then PATH=$folder:$PATH; fi
done

passed=()
is_wanted() { # NAME
    [[ " ${ENVIRONMENTS:-$1} " == *" $1 "* ]]
}

resolve() { # NAME PYTHON OPTION…: writes build/matrix/NAME.txt
    local requirements=build/matrix/$1.txt python=$2
    shift 2
    "$uv" pip compile --quiet --upgrade --python "$python" --extra faiss --extra lite --extra s3 --extra mysql \
        "$@" pyproject.toml --output-file "$requirements" >/dev/null
}

make_environment() { # NAME PYTHON REQUIREMENT…: makes .venv-NAME
    local venv=.venv-$1 python=$2
    shift 2
    "$uv" venv --quiet --clear --python "$python" "$venv"
    "$uv" pip install --quiet --python "$venv" "$@"
    "$uv" pip install --quiet --python "$venv" --no-deps --no-build-isolation --editable .
}

check() { # NAME: what runs in .venv-NAME
    local venv=.venv-$1
    "$uv" pip freeze --python "$venv" | grep -E '^(apache-airflow(-providers-mysql)?|pymilvus|milvus-lite|numpy|pydantic)=='
    "$venv/bin/python" -m pytest --numprocesses 2 --dist worksteal tests/unit tests/integration/sources/test_mysql_catalog.py
    VENV=$venv bash dev/demo.sh
    passed+=("$1")
}

pythons=()
for version in 3.11 3.12 3.13; do
    if ! python=$("$uv" python find --system "$version" 2>/dev/null); then
        echo "== Python $version: not found"
        continue
    fi
    pythons+=("$python")
    if is_wanted "$version"; then
        echo "== Python $version, locked versions: $python"
        make_environment "$version" "$python" --require-hashes \
            --requirement requirements.lock --requirement dev/requirements-mysql.lock
        check "$version"
    fi
done

if is_wanted oldest; then
    echo "== Oldest versions: ${pythons[0]}"
    resolve oldest "${pythons[0]}" --resolution lowest-direct
    make_environment oldest "${pythons[0]}" --requirement build/matrix/oldest.txt --group dev
    check oldest
fi

if is_wanted newest; then
    echo "== Newest versions: ${pythons[-1]}"
    resolve newest "${pythons[-1]}"
    make_environment newest "${pythons[-1]}" --requirement build/matrix/newest.txt --group dev
    check newest
fi

echo "== Passed: ${passed[*]:-none}"
((${#passed[@]}))
