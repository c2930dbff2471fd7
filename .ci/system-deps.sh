#!/bin/sh
# Installs the system libraries that a napari window needs on a machine without a desktop: Qt's X11 libraries,
# OpenGL in software and a virtual screen. Does nothing where they are already there. Debian and Ubuntu.
set -eu

packages="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libglib2.0-0 libfontconfig1 libxkbcommon0 libdbus-1-3 \
libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxkbcommon-x11-0 libxcb-shape0"
libraries="libGL.so.1 libEGL.so.1 libglib-2.0.so.0 libfontconfig.so.1 libxkbcommon.so.0 libdbus-1.so.3 \
libxcb-cursor.so.0 libxcb-icccm.so.4 libxcb-keysyms.so.1 libxkbcommon-x11.so.0 libxcb-shape.so.0"

# macOS and Windows bring all of it
[ "$(uname -s)" = Linux ] || exit 0

# ldconfig lives in sbin, which is not on everybody's PATH
PATH="$PATH:/usr/sbin:/sbin"

missing() {
  known=$(ldconfig -p)
  for library in $libraries; do
    case "$known" in *"$library"*) ;; *) printf '%s ' "$library" ;; esac
  done
  for program in Xvfb xauth; do
    command -v "$program" >/dev/null 2>&1 || printf '%s ' "$program"
  done
}

lacking=$(missing)
[ -n "$lacking" ] || exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "system-deps: installing what is missing: $lacking"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086  # a list of words
  apt-get install -qq -y --no-install-recommends $packages >/dev/null
  lacking=$(missing)
  [ -n "$lacking" ] || exit 0
fi

{
  echo "system-deps: napari's window needs what this machine lacks: $lacking"
  echo "system-deps: install it, then run this again. On Debian or Ubuntu:"
  echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages"
} >&2
exit 1
