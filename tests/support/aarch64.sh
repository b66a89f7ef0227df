#!/usr/bin/env bash
# The wheel for aarch64, compiled on another machine, and the tests of its extension under an emulator: Debian's Python for
# arm64, unpacked into a folder beside what PyPI has for it. Nothing is installed. Type: make wheels
set -euo pipefail

[ $# = 3 ] || { echo "usage: $0 FOLDER PYTHON BUNDLES" >&2; exit 2; }
folder=$1 python=$2 bundles=$3
mkdir -p "$folder"
folder=$(realpath "$folder")
for program in aarch64-linux-gnu-gcc qemu-aarch64 dpkg; do
    command -v "$program" > /dev/null || {
        echo "no $program. Type: sudo apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user dpkg" >&2
        exit 1
    }
done
pip() { "$python" -m pip --disable-pip-version-check -q "$@"; }

rm -rf "$folder/wheels" && mkdir -p "$folder/wheels"
_PYTHON_HOST_PLATFORM=linux-aarch64 CC=aarch64-linux-gnu-gcc LNN_EDGE_EXTENSION=require \
    pip wheel --no-deps --no-build-isolation -w "$folder/wheels" .

if [ ! -e "$folder/root" ]; then
    rm -rf "$folder/packages" "$folder/unpacked"
    mkdir -p "$folder"/apt/{lists/partial,cache/archives/partial} "$folder/packages"
    apt=(-qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o "Dir::State=$folder/apt" -o "Dir::Cache=$folder/apt/cache"
        -o "Dir::State::lists=$folder/apt/lists" -o Dir::State::status=/dev/null -o "APT::Sandbox::User=$(id -un)")
    apt-get "${apt[@]}" update
    (cd "$folder/packages" && apt-get "${apt[@]}" download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib \
        libc6 libexpat1 libffi8 libgcc-s1 libssl3 libstdc++6 libuuid1 zlib1g libbz2-1.0 liblzma5)
    for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder/unpacked"; done
    mv "$folder/unpacked" "$folder/root" # whole, or to be made again
fi

platforms=(--platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 --platform linux_aarch64)
rm -rf "$folder/site"
pip install --target "$folder/site" --python-version 3.11 --only-binary=:all: --no-deps "${platforms[@]}" \
    "$folder"/wheels/*.whl numpy msgspec safetensors rich markdown-it-py mdurl pygments \
    hypothesis iniconfig packaging pluggy pytest pytest-timeout sortedcontainers

# The emulated Python calls this machine's compiler, which is no native one for it.
mkdir -p "$folder/bin"
cat > "$folder/bin/cc" << 'EOF'
#!/bin/sh
for argument; do
    shift
    [ "$argument" = -mcpu=native ] || set -- "$@" "$argument"
done
exec aarch64-linux-gnu-gcc "$@"
EOF
chmod +x "$folder/bin/cc"
export PATH=$folder/bin:$PATH PYTHONPATH=$folder/site PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 CI=true
LNN_EDGE_TEST_BUNDLES=$(realpath "$bundles") qemu-aarch64 -L "$folder/root" "$folder/root/usr/bin/python3.11" \
    -m pytest -p no:cacheprovider tests/runtime/compiled
ls "$folder/wheels"
