# Makes keys, a certificate and the repository shop.git, and serves it. Tests read /data/known_hosts, /data/client and
# /data/cert.pem, and commit in /data/work.
set -eu
cd /data
mkdir -p git/files
export GIT_CONFIG_GLOBAL=/data/gitconfig HOME=/data
git config --global user.name tests
git config --global user.email tests@example.com
git config --global init.defaultBranch main
git config --global safe.directory '*'

openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=git" -addext "subjectAltName=DNS:git" \
    -keyout key.pem -out cert.pem 2> /dev/null
ssh-keygen -q -t ed25519 -N '' -f host
ssh-keygen -q -t ed25519 -N '' -f client
cp client.pub authorized_keys
printf '[git]:8022 %s\n' "$(cut -d' ' -f1,2 host.pub)" > known_hosts

git init --quiet --bare git/shop.git
git init --quiet work
cp -r /opt/project/. work
git -C work add --all
git -C work commit --quiet --message 'The shop'
git -C work push --quiet ../git/shop.git HEAD:refs/heads/main

cat > sshd_config << END
Port 8022
HostKey /data/host
PidFile /data/sshd.pid
AuthorizedKeysFile /data/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
END
/usr/sbin/sshd -f /data/sshd_config
python3 /opt/serve.py /data/git 8080 &
exec python3 /opt/serve.py /data/git 8443 /data/cert.pem /data/key.pem
