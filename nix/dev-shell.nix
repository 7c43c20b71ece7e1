# Everything that `./check` wants.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.age
    pkgs.cargo
    pkgs.cargo-nextest
    pkgs.clippy
    pkgs.cpio
    pkgs.curl
    pkgs.deadnix
    pkgs.e2fsprogs
    pkgs.git
    pkgs.libressl.nc
    pkgs.microsocks
    pkgs.mmdebstrap
    pkgs.nixfmt
    pkgs.nodejs
    pkgs.openssh
    pkgs.perl
    pkgs.procps
    pkgs.python3
    pkgs.qemu
    pkgs.rust-analyzer
    pkgs.rustc
    pkgs.rustfmt
    pkgs.shellcheck
    pkgs.sops
    pkgs.statix
    pkgs.strace
    pkgs.tmux
    pkgs.util-linux
  ];
  # rust-analyzer looks for the library's source here.
  RUST_SRC_PATH = "${pkgs.rustPlatform.rustLibSrc}";
}
