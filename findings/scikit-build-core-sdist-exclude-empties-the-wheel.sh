#!/bin/bash
# scikit-build-core: `sdist.exclude` also takes files out of wheels: the packages that `wheel.packages` names.
#
# Seen with: scikit-build-core 1.1.2 (PyPI), cmake 3.25, Python 3.11.
# What one would expect: a project that publishes wheels only says sdist.exclude = ["*"], and its wheel is as before.
# What happens: the wheel is built without a word and has no Python file, though wheel.packages names the package; what
#   CMake installs is in it, so that it looks complete until somebody imports it.
# Output seen:
#   without sdist.exclude: pkg/__init__.py
#   with sdist.exclude = ["*"]: no pkg/__init__.py
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scikit-build-core==1.1.2 cmake==3.31.6 ninja==1.11.1.4
mkdir -p "$work/project/src/pkg"
cd "$work/project"
echo 'x = 1' > src/pkg/__init__.py
cat > CMakeLists.txt <<'CMAKE'
cmake_minimum_required(VERSION 3.20)
project(pkg LANGUAGES NONE)
file(WRITE ${CMAKE_BINARY_DIR}/made.txt "made")
install(FILES ${CMAKE_BINARY_DIR}/made.txt DESTINATION pkg)
CMAKE
names_with() {
  cat > pyproject.toml <<TOML
[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"
[project]
name = "pkg"
version = "1"
[tool.scikit-build]
wheel.packages = ["src/pkg"]
$1
TOML
  rm -rf made
  PATH=$work/venv/bin:$PATH "$work/venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir made . >&2
  python3 -m zipfile -l made/*.whl
}
without=$(names_with '')
with=$(names_with 'sdist.exclude = ["*"]')
grep -q pkg/__init__.py <<<"$without" && echo 'without sdist.exclude: pkg/__init__.py'
grep -q pkg/made.txt <<<"$with"
if grep -q pkg/__init__.py <<<"$with"; then
  echo 'with sdist.exclude = ["*"]: pkg/__init__.py'
  exit 1
fi
echo 'with sdist.exclude = ["*"]: no pkg/__init__.py'
