# Downloads what a requirements file names, and makes an index of all that there is by then: index.sh FILE NAME
set -eu
/opt/pip/bin/pip download --quiet --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: --dest /srv/wheels -r "/tmp/$1"
cd /srv/wheels
for wheel in *.whl; do
    package=$(echo "${wheel%%-*}" | tr A-Z_ a-z-)
    mkdir -p "/srv/$2/$package"
    ln -s "../../wheels/$wheel" "/srv/$2/$package/"
done
