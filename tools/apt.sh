# shellcheck shell=bash
# Sourced by ./dev and bench/peers/setup: reads the machine's own apt configuration. It changes nothing by itself.
# Every address comes from the machine: none stands in this tree.

# debian_sources [DIR]: one line per Debian archive of the machine's source files (never of the file that ./dev writes):
# URI <tab> suites <tab> keyring or '-'. Reads both deb822 (.sources) and one-line (.list) files.
debian_sources() {
  local dir=${1:-/etc/apt} file
  for file in "$dir"/sources.list.d/*.sources; do
    [[ -f $file && $file != */baton-* ]] || continue
    awk '
      function flush(  n, i, uris, keyring) {
        if (field["types"] ~ /(^| )deb( |$)/ && field["enabled"] != "no") {
          keyring = field["signed-by"] ~ /^\// ? field["signed-by"] : "-"
          sub(/[ ,].*/, "", keyring)
          n = split(field["uris"], uris, " ")
          for (i = 1; i <= n; i++) print uris[i] "\t" field["suites"] "\t" keyring
        }
        split("", field); last = ""
      }
      /^[ \t]*$/ { flush(); next }
      /^#/ { next }
      /^[ \t]/ { if (last != "signed-by") field[last] = field[last] " " $1; next }
      {
        colon = index($0, ":"); last = tolower(substr($0, 1, colon - 1)); value = substr($0, colon + 1)
        gsub(/^[ \t]+|[ \t\r]+$/, "", value); field[last] = value
      }
      END { flush() }' "$file"
  done
  for file in "$dir"/sources.list "$dir"/sources.list.d/*.list; do
    [[ -f $file && $file != */baton-* ]] || continue
    awk '
      $1 == "deb" {
        keyring = "-"
        if (match($0, /signed-by=[^] \t,]+/)) keyring = substr($0, RSTART + 10, RLENGTH - 10)
        sub(/\[[^]]*\]/, ""); print $2 "\t" $3 "\t" keyring
      }' "$file"
  done
}

# debian_archive [DIR]: URI <tab> keyring of the machine's main Debian archive; fails when it has none (Ubuntu, say).
debian_archive() {
  debian_sources "${1:-/etc/apt}" | awk -F '\t' '
    {
      n = split($2, suites, " ")
      for (i = 1; i <= n; i++)
        if (suites[i] ~ /^(bookworm|trixie|forky|duke|sid|oldstable|stable|testing|unstable)$/) {
          print $1 "\t" $3; found = 1; exit
        }
    }
    END { exit !found }'
}

# plain_mirror URI: the address itself, or the first one of the list that a mirror+file: address names
# (debootstrap does not read such lists).
plain_mirror() {
  case $1 in
    mirror+file:*)
      # Two or three slashes after the colon say the same to open().
      awk '!/^#/ && NF { print $1; exit }' "${1#mirror+file:}"
      ;;
    *) printf '%s\n' "$1" ;;
  esac
}

# keyring_or_default KEYRING: the keyring that the source names, or Debian's own.
keyring_or_default() {
  if [[ $1 != - ]]; then printf '%s\n' "$1"; return; fi
  local candidate
  for candidate in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
    if [[ -f $candidate ]]; then printf '%s\n' "$candidate"; return; fi
  done
  return 1
}

# as_root COMMAND...: runs it as root, by sudo where needed.
as_root() {
  if [[ $(id -u) == 0 ]]; then "$@"; return; fi
  command -v sudo >/dev/null || { echo "This step needs root: run it as root or install sudo." >&2; return 1; }
  sudo "$@"
}

# apt_install ARGS...: installs without asking anything and never removes a package.
apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove \
    -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 "$@"
}
