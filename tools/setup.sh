# shellcheck shell=bash
# Sourced by ./dev after tools/apt.sh: installs what the build, the lint and the benches need.
# It decides by what apt offers, never by the name of the system, and it removes no package.

# Package and the least version that will do; 'a|b' means that either serves.
kBuildPackages="
cmake 3.25
ninja-build 1.10
pkg-config 0
python3 3.9
g++-14|g++-15|g++-16 14
libssl-dev 3.0
libspdlog-dev 1:1.10
libxxhash-dev 0.8
libpcre2-dev 10.40
libcli11-dev 2.1
libgtest-dev 1.12
libboost1.88-dev|libboost1.90-dev|libboost-dev 1.88
libglaze-dev 8
libggml-dev 0.27
nlohmann-json3-dev 3.11
libminja-dev 0
"
# What the build does without where no source has it: prefill on the CPU is then as fast as ggml alone, nodes do not
# find each other on the local network, the server has no chat page, and the tests that hold answers against their
# schemas are skipped.
kWishedPackages="
libdnnl-dev 3.7
libavahi-compat-libdnssd-dev 0
python3-jsonschema 3.2
nodejs 18
npm 9
"
# A second kind of device for the tests: ggml's Vulkan backend on Mesa's driver that computes on the CPU. Mesa 22.3 (the
# one of Debian 12) frees buffers that it still uses.
kTestDevicePackages="
mesa-vulkan-drivers 24
libggml0-backend-vulkan 0.27
"
# For the tests of the chat page.
kBrowserPackages="
chromium 0
"
# All that the tests need of the linters.
kFormatPackages="
clang-format-19 0
"
kLintPackages="
$kFormatPackages
clang-tidy-19 0
clang-19 0
libclang-rt-19-dev 0
"
kFuzzPackages="
$kLintPackages
llvm-19 0
"
kBenchPackages="
iperf3 0
iproute2 0
debootstrap 0
libbenchmark-dev 1.7
"
kBrewPackages="cmake ninja pkgconf python3 openssl@3 spdlog fmt xxhash pcre2 cli11 googletest boost glaze ggml nlohmann-json"

# Header-only packages that come from testing where the system's release does not have them.
kForkyPackages="libminja-dev"

kTrixieSource=/etc/apt/sources.list.d/baton-trixie.sources
kTrixiePin=/etc/apt/preferences.d/baton
kForkySource=/etc/apt/sources.list.d/baton-forky.sources
kForkyPin=/etc/apt/preferences.d/baton-forky

# A newer OpenSSL for this tree alone, where the system's has no AES-GCM on VAES: links of 10 Gbit/s want it.
kOwnOpenssl=build/openssl
kOpensslWithVaes=3.1

has_apt() { command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; }

# A ggml that the developer built stands in for the package.
brings_own_ggml() { [[ -n ${CMAKE_PREFIX_PATH:-} || -n ${ggml_DIR:-} ]]; }

# Node.js that came by other means than Debian's packages, with its own npm.
brings_own_npm() { command -v node >/dev/null && command -v npm >/dev/null; }

# Whether the package, or one of its alternatives, is installed at its least version.
is_installed() {
  local least=$2 name status version
  [[ $1 == libggml-dev ]] && brings_own_ggml && return 0
  [[ $1 == nodejs || $1 == npm ]] && brings_own_npm && return 0
  for name in ${1//|/ }; do
    # shellcheck disable=SC2016
    read -r status version < <(dpkg-query -W -f '${db:Status-Abbrev} ${Version}\n' "$name" 2>/dev/null) || continue
    if [[ $status == ii && ( $least == 0 || $(dpkg --compare-versions "$version" ge "$least"; echo $?) == 0 ) ]]; then
      return 0
    fi
  done
  return 1
}

# missing_packages TABLE: the lines of the table that are not installed.
missing_packages() {
  local names least
  while read -r names least; do
    if [[ -n $names ]] && ! is_installed "$names" "$least"; then echo "$names $least"; fi
  done <<<"$1"
}

# candidate NAME LEAST: the version of at least LEAST that apt prefers, and the priority of its source; nothing when
# there is none. A pinned source may have it where the candidate for an ordinary install is too old.
candidate() {
  local version priority best="" best_priority=-1
  while read -r version priority; do
    if ((priority > best_priority)) && { [[ $2 == 0 ]] || dpkg --compare-versions "$version" ge "$2"; }; then
      best=$version best_priority=$priority
    fi
  done < <(LC_ALL=C apt-cache policy "$1" 2>/dev/null | awk '
    $1 == "***" { $1 = ""; $0 = $0 }
    # A version with its own priority (a pin may name the package), then a line for each source that has it; what is
    # only installed has no source to come from.
    in_table && NF == 2 && $2 ~ /^-?[0-9]+$/ { version = $1; priority = $2; next }
    in_table && version && /^ +-?[0-9]+ / && !/dpkg\/status/ { print version, priority }
    /Version table:/ { in_table = 1 }')
  if [[ -n $best ]]; then echo "$best $best_priority"; fi
}

# resolve LINES: "NAME PRIORITY" for each that apt can install well enough, "NAME none" for the others.
resolve() {
  local names least name version priority found
  while read -r names least; do
    [[ -n $names ]] || continue
    found=
    for name in ${names//|/ }; do
      read -r version priority < <(candidate "$name" "$least") || continue
      found="$name $priority"
      break
    done
    echo "${found:-${names%%|*} none}"
  done <<<"$1"
}

# Whether trixie is the machine's own release, and not only our pinned addition.
trixie_is_its_own() {
  LC_ALL=C apt-cache policy | awk '
    $1 ~ /^[0-9]+$/ { priority = $1 }
    /release/ && /[=,]n=trixie(,|$)/ && priority >= 500 { found = 1 }
    END { exit !found }'
}

write_as_root() {
  local path=$1 content=$2
  [[ -f $path && $(cat "$path") == "$content" ]] && return
  echo "Writing $path"
  printf '%s\n' "$content" | as_root tee "$path" >/dev/null
}

# write_source FILE SUITES: an extra apt source, from the machine's own mirror.
write_source() {
  local uri keyring source
  IFS=$'\t' read -r uri keyring < <(debian_archive) || return 1
  source="Types: deb
URIs: $uri
Suites: $2
Components: main"
  if keyring=$(keyring_or_default "$keyring"); then source+="
Signed-By: $keyring"; fi
  write_as_root "$1" "$source"
}

# Debian 13 and its backports as an extra source, pinned so low that nothing moves to it by itself.
add_trixie() {
  local suites="trixie-backports" pin="Package: *
Pin: release n=trixie*
Pin-Priority: 100"
  if ! trixie_is_its_own; then
    suites="trixie trixie-backports"
    # Before the source: lists of an earlier time may still lie there, and without the pin trixie would count as the
    # machine's own release from now on.
    write_as_root "$kTrixiePin" "$pin"
  fi
  write_source "$kTrixieSource" "$suites"
}

# Debian testing, for headers that no release has yet: every other package of it is barred.
add_forky() {
  local pin="Package: *
Pin: release n=forky*
Pin-Priority: -1

Package: $kForkyPackages
Pin: release n=forky*
Pin-Priority: 100"
  # The bar has to stand before apt reads the lists.
  write_as_root "$kForkyPin" "$pin" && write_source "$kForkySource" forky
}

# lacks_forky_package RESOLVED: whether one of those that only testing has could not be found.
lacks_forky_package() {
  local name
  for name in $kForkyPackages; do
    if grep -qx "$name none" <<<"$1"; then return 0; fi
  done
  return 1
}

update_lists() {
  echo "Reading package lists"
  as_root apt-get update -q -o Dpkg::Use-Pty=0 >/dev/null ||
    echo "Some package lists could not be read; going on with those that could." >&2
}

# quietly COMMAND...: shows the last lines of its output only when it fails.
quietly() {
  local log
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then rm -f "$log"; return; fi
  tail -20 "$log" >&2
  rm -f "$log"
  return 1
}

# install_table TABLE: installs what is missing of it, as far as that goes; fails where something of it is missing still.
install_table() {
  local missing resolved none failed=0
  missing=$(missing_packages "$1")
  [[ -n $missing ]] || return 0
  update_lists
  resolved=$(resolve "$missing")
  if grep -q ' none$' <<<"$resolved" && add_trixie; then
    if lacks_forky_package "$resolved"; then add_forky; fi
    update_lists
    resolved=$(resolve "$missing")
  fi
  none=$(sed -n 's/ none$//p' <<<"$resolved" | paste -sd ' ' -)

  # First what the system's own release has, then what must come from the newer one, with the C library it needs.
  # Word splitting is wanted below: package names hold no blanks.
  local own newer
  own=$(awk '$2 != "none" && $2 > 100 { print $1 }' <<<"$resolved" | paste -sd ' ' -)
  newer=$(awk '$2 != "none" && $2 <= 100 { print $1 }' <<<"$resolved" | paste -sd ' ' -)
  if [[ -n $own ]]; then
    echo "Installing $own"
    # Where the C library already is trixie's, its 32-bit sister, which libclang-rt wants, has to be so too.
    # shellcheck disable=SC2086
    if [[ -f $kTrixiePin && $own == *libclang-rt* ]] && ! apt_install --simulate $own >/dev/null 2>&1; then
      own+=" libc6-i386/trixie"
    fi
    # shellcheck disable=SC2086
    quietly apt_install $own || failed=1
  fi
  if [[ -n $newer ]]; then
    # shellcheck disable=SC2086
    if trixie_is_its_own; then
      echo "Installing from backports: $newer"
      quietly apt_install $newer || failed=1
    else
      echo "Installing from trixie, with its C library: $newer"
      quietly apt_install -t trixie libc6 libc6-dev libstdc++6 $newer || failed=1
    fi
  fi
  if [[ -n $none ]]; then
    echo "This system's package sources do not have: $none" >&2
    echo "docs/install.md says how to build what is missing, and how to point CMake at it." >&2
    failed=1
  fi
  return $failed
}

# Whether the system's OpenSSL is too old for VAES, and trixie, which setup has added, has a newer one.
wants_own_openssl() {
  local system newer priority
  [[ ! -d $kOwnOpenssl && -f $kTrixiePin ]] || return 1
  # shellcheck disable=SC2016
  system=$(dpkg-query -W -f '${Version}' libssl-dev 2>/dev/null) || return 1
  dpkg --compare-versions "$system" lt "$kOpensslWithVaes" || return 1
  read -r newer priority < <(candidate libssl-dev "$kOpensslWithVaes") && [[ -n $newer && $priority == 100 ]]
}

# unpack_openssl FOLDER: trixie's library and headers; apt checks their signatures.
unpack_openssl() {
  local package
  mkdir "$1/packages" "$1/root"
  (cd "$1/packages" && apt-get download -q -o APT::Sandbox::User=root libssl3t64/trixie libssl-dev/trixie) || return 1
  for package in "$1"/packages/*.deb; do dpkg -x "$package" "$1/root" || return 1; done
  mkdir "$1/openssl"
  mv "$1/root/usr/include" "$1/openssl/include"
  # Debian keeps an architecture's headers apart, where only its own compiler looks by itself.
  mv "$1"/openssl/include/*-linux-gnu*/openssl/* "$1/openssl/include/openssl/"
  mv "$1"/root/usr/lib/*-linux-gnu* "$1/openssl/lib"
  mkdir -p "${kOwnOpenssl%/*}"
  mv "$1/openssl" "$kOwnOpenssl"
}

# Into the build folder, as its packages cannot be installed beside the system's. Nothing is lost where it fails.
set_up_own_openssl() {
  local work
  wants_own_openssl || return 0
  echo "Unpacking trixie's OpenSSL into $kOwnOpenssl"
  work=$(mktemp -d)
  quietly unpack_openssl "$work" || echo "The system's OpenSSL serves too; it encrypts more slowly." >&2
  rm -rf "$work"
}

missing_from_brew() {
  local name
  for name in $kBrewPackages; do
    if [[ $name == ggml ]] && brings_own_ggml; then continue; fi
    brew list --versions "$name" >/dev/null 2>&1 || echo "$name"
  done
}

set_up() {
  local without=
  if [[ ${BATON_SKIP_SETUP:-} == 1 ]]; then echo "BATON_SKIP_SETUP is set: nothing installed"; return; fi
  if has_apt; then
    install_table "$kBuildPackages"
    # Whether it could be installed is seen by what is there then.
    install_table "$(wishes_to_be_had)" || true
    if [[ ${CI:-} == true ]]; then install_table "$kFormatPackages"; fi
    set_up_own_openssl
    without=$(missing_packages "$kWishedPackages" | awk '{ print $1 }' | paste -sd ' ' -)
  elif command -v brew >/dev/null; then
    local missing
    missing=$(missing_from_brew | paste -sd ' ' -)
    if [[ -n $missing ]]; then
      echo "Installing $missing"
      # shellcheck disable=SC2086
      brew install --quiet $missing
    fi
  else
    echo "Neither apt nor Homebrew is here; docs/install.md lists what is needed. Then set BATON_SKIP_SETUP=1." >&2
    return 1
  fi
  if [[ -n $without ]]; then
    echo "Every dependency that is needed is installed. Going on without $without: docs/install.md says what that means."
  else
    echo "Every dependency is installed."
  fi
}

# The lines of what is wished for, missing, and to be had.
wishes_to_be_had() {
  local line
  while read -r line; do
    if [[ -n $line ]] && ! resolve "$line" | grep -q ' none$'; then echo "$line"; fi
  done < <(missing_packages "$kWishedPackages")
}

# The tests that want it are skipped without, so nothing fails here. Where the driver would have to displace other
# packages, apt refuses it.
set_up_test_device() {
  local missing
  if [[ ${BATON_SKIP_SETUP:-} == 1 ]] || ! has_apt || brings_own_ggml; then return; fi
  if ! install_table "$kTestDevicePackages"; then echo "The software device could not be installed." >&2; fi
  missing=$(missing_packages "$kTestDevicePackages" | awk '{ print $1 }' | paste -sd ' ' -)
  if [[ -n $missing ]]; then echo "Tests on a second device will be skipped, for want of $missing" >&2; fi
}

# The tests that want it are skipped without.
set_up_test_browser() {
  if [[ ${BATON_SKIP_SETUP:-} == 1 ]] || ! has_apt || command -v chromium >/dev/null; then return; fi
  if ! install_table "$kBrowserPackages"; then echo "Tests of the chat page will be skipped, for want of chromium" >&2; fi
}

# Sets up only where something is missing: a tenth of a second when nothing is.
ensure_set_up() {
  [[ ${BATON_SKIP_SETUP:-} == 1 ]] && return
  if has_apt && [[ -z $(missing_packages "$kBuildPackages") && -z $(wishes_to_be_had) ]] && ! wants_own_openssl; then
    return
  fi
  if ! has_apt && command -v brew >/dev/null && [[ -z $(missing_from_brew) ]]; then return; fi
  set_up >&2
}

set_up_extra() {
  [[ ${BATON_SKIP_SETUP:-} == 1 ]] && return
  if has_apt; then install_table "$1" >&2; return; fi
  local tool
  for tool in $2; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: see docs/install.md" >&2; return 1; }
  done
}

set_up_lint() { set_up_extra "$kLintPackages" "clang-format-19 clang-tidy-19 clang++-19"; }
set_up_fuzz() { set_up_extra "$kFuzzPackages" "clang++-19"; }
set_up_bench() { set_up_extra "$kBenchPackages" "iperf3"; }
