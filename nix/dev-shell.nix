# Everything that `./check` wants.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.cargo
    pkgs.cargo-nextest
    pkgs.clippy
    pkgs.deadnix
    pkgs.git
    pkgs.nixfmt
    pkgs.nodejs
    pkgs.procps
    pkgs.python3
    pkgs.rust-analyzer
    pkgs.rustc
    pkgs.rustfmt
    pkgs.shellcheck
    pkgs.statix
    pkgs.strace
    pkgs.tmux
    pkgs.util-linux
  ];
  # rust-analyzer looks for the library's source here.
  RUST_SRC_PATH = "${pkgs.rustPlatform.rustLibSrc}";
}
