# Sourced by the scripts beside this folder. Goes to the root of the checkout and offers
# `ensure_environment`, which makes .venv exactly what the lock files say, once.

root="$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")"
caller_folder="$PWD"
environment="$root/.venv"
cd "$root"

say() { printf 'scripts/%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "stopped: $*"
  exit 1
}

# Prints the first Python that runs, has a supported version and can make virtual environments.
# `python3` comes first: what this machine's pip is configured for is usually its default Python.
find_python() {
  local check='import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})'
  local candidate
  while read -r candidate; do
    # A version manager's shim may exist and still run nothing, so each one is tried.
    if "$candidate" -c "$check" >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done < <(type -aP python3 python3.12 python3.11)
  fail "no Python 3.11 or 3.12 with the venv module found on PATH (Debian: apt-get install python3 python3-venv)"
}

# What the packages of a finished .venv came from. The folder is part of it: a virtual environment
# does not survive being moved.
locked_state() {
  echo "$environment $("$environment/bin/python" --version 2>&1)"
  sha256sum requirements-torch.lock requirements.lock
}

# What the editable install of the project came from.
project_state() { sha256sum pyproject.toml; }

is_stamped() { [[ -f $environment/$1 && "$(<"$environment/$1")" == "$2" ]]; }

is_ready() { is_stamped .locked "$(locked_state)" && is_stamped .project "$(project_state)"; }

# -qq keeps pip's errors and drops its notices about package folders that lack a package.
pip_install() {
  "$environment/bin/python" -m pip install -qq --disable-pip-version-check "$@"
}

install_locked() {
  local python
  python="$(find_python)"
  say "making .venv with $("$python" --version) ($python)"
  "$python" -m venv --clear "$environment" || fail "$python could not make $environment"
  say "installing $(grep '^torch==' requirements-torch.lock) (the largest part)"
  pip_install -r requirements-torch.lock || fail "torch could not be installed: pip's reason is above"
  say "installing the rest of requirements.lock"
  # --no-deps: the lock is complete. No build isolation: the one source package builds with the
  # setuptools that torch brought.
  pip_install --no-deps --no-build-isolation --require-hashes -r requirements.lock ||
    fail "requirements.lock could not be installed: pip's reason is above"
  locked_state >"$environment/.locked"
}

install_project() {
  say "installing bitladder itself, editable"
  rm -f "$environment/.project"
  pip_install --no-deps --no-build-isolation --editable . ||
    fail "bitladder could not be installed: pip's reason is above"
  "$environment/bin/python" -m pip check >&2 ||
    fail "the lock does not satisfy pyproject.toml: run scripts/lock"
  project_state >"$environment/.project"
}

# Returns at once when .venv is what the lock and pyproject.toml ask for. The stamps are written
# last, so an installation that was cut off is made anew.
ensure_environment() {
  command -v "${CXX:-g++}" >/dev/null ||
    fail "no C++ compiler '${CXX:-g++}': PyTorch compiles the int8 model with it (Debian: apt-get install g++)"
  is_ready && return
  # Two scripts started together: the second waits here, then finds everything done.
  exec 9<"$root"
  flock 9
  is_stamped .locked "$(locked_state)" || install_locked
  is_stamped .project "$(project_state)" || install_project
  exec 9<&-
  say "set up in ${SECONDS} s"
}

# Relative paths in the arguments, runs/ and sweeps/ are the checkout's whatever folder we are called from.
say_folder() {
  [[ $caller_folder == "$root" ]] || say "working in $root: relative paths and runs/ are there"
}
