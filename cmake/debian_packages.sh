# Sourced by the scripts that build from nothing: install_missing <package>… with apt-get, as root, on Debian and its kin;
# elsewhere what is needed has to be there.
install_missing() {
  command -v dpkg >/dev/null && command -v apt-get >/dev/null || return 0
  local package missing=()
  for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing with apt-get: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
