# Downloads what requirements files name, and makes an index of it: index.sh FILE...
set -eu
for file in "$@"; do
    /opt/pip/bin/pip download --quiet --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: --dest /srv/wheels -r "/tmp/$file"
done
cd /srv/wheels
for wheel in *.whl; do
    package=$(echo "${wheel%%-*}" | tr A-Z_ a-z-)
    mkdir -p "/srv/simple/$package"
    ln -s "../../wheels/$wheel" "/srv/simple/$package/"
done
