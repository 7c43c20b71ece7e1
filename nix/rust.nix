# The Rust side: the programs, the package around them, and what cargo can check.
{ pkgs, crane }:
let
  inherit (pkgs) lib;
  inherit (lib) fileset;
  craneLib = crane.mkLib pkgs;
  root = ../.;

  from =
    files:
    fileset.toSource {
      inherit root;
      fileset = fileset.unions files;
    };
  noNix = fileset.fileFilter (file: !(file.hasExt "nix"));

  # What cargo reads: a changed page, unit or Nix file builds nothing anew.
  code = [
    ../.config
    ../Cargo.lock
    ../Cargo.toml
    ../clippy.toml
    ../rustfmt.toml
    ../src
    ../tools/manual.rs
    (noNix ../tests)
  ];
  # What tests take in as they are compiled.
  included = [
    ../docs/proxy.md
    ../docs/secrets.md
    ../modules/units/cc-ci-secrets.service
  ];
  # What tests hold against the code besides, or run. That nothing is missing in these lists: tests/nix_sources.rs.
  pages = [
    ../CONTRIBUTING.md
    ../LICENSE
    ../README.md
    ../benches
    ../check
    ../checks/proxy/guest
    ../demo
    ../docs
    ../hosts/cc-ci-orchestrator/secrets.nix
    ../modules/sysusers.d
    ../modules/tmpfiles.d
    ../modules/units
    ../nix/rust.nix
    ../secrets/.sops.yaml
    ../secrets/README.md
    ../secrets/example
    ../tools
  ];

  common = {
    src = from code;
    strictDeps = true;
  };
  withDependencies = common // {
    cargoArtifacts = craneLib.buildDepsOnly common;
  };
  inherit (craneLib.crateNameFromCargoToml { src = root; }) version;

  programs = craneLib.buildPackage (
    withDependencies
    // {
      pname = "cc-ci-programs";
      # The tests are a check of their own.
      doCheck = false;
      postInstall = ''
        cargo run --release --locked --example manual -- "$out/share"
      '';
    }
  );

  packageOf =
    programs:
    pkgs.runCommand "cc-ci-orchestrator-${version}"
      {
        pname = "cc-ci-orchestrator";
        inherit version;
        strictDeps = true;
        nativeBuildInputs = [ pkgs.makeBinaryWrapper ];
        passthru = {
          inherit programs;
          withPrograms = packageOf;
        };
        meta = {
          description = "Keeps long-running coding agents alive on a NixOS or systemd machine";
          license = lib.licenses.mit;
          mainProgram = "supervisor";
          platforms = lib.platforms.linux;
        };
      }
      ''
        mkdir -p $out/bin $out/lib/systemd/system
        ln -s ${programs}/share $out/share
        for program in ${programs}/bin/*; do
          ln -s "$program" $out/bin/
        done
        # Before all else in PATH: the tmux that a session runs in and the one that talks to it must be the same.
        rm $out/bin/supervisor
        makeWrapper ${programs}/bin/supervisor $out/bin/supervisor --inherit-argv0 \
          --prefix PATH : ${
            lib.makeBinPath [
              pkgs.tmux
              pkgs.git
            ]
          }
        for unit in ${../modules/units}/*.service; do
          substitute "$unit" "$out/lib/systemd/system/$(basename "$unit")" --replace-quiet @bindir@ "$out/bin"
        done
        if grep -r @bindir@ $out/lib; then
          echo "a unit has a placeholder left" >&2
          exit 1
        fi
      '';
  package = packageOf programs;
in
{
  inherit package programs;

  checks = {
    clippy = craneLib.cargoClippy (
      withDependencies
      // {
        src = from (code ++ included);
        cargoClippyExtraArgs = "--all-targets --all-features -- -D warnings";
      }
    );

    doc = craneLib.cargoDoc (
      withDependencies
      // {
        cargoDocExtraArgs = "--no-deps --document-private-items";
        env.RUSTDOCFLAGS = "-D warnings -A rustdoc::private-intra-doc-links";
      }
    );

    fmt = craneLib.cargoFmt { inherit (common) src; };

    nextest = craneLib.cargoNextest (
      withDependencies
      // {
        src = from (code ++ included ++ pages);
        cargoExtraArgs = "--locked";
        nativeCheckInputs = [
          pkgs.git
          pkgs.procps
          pkgs.tmux
          pkgs.util-linux
        ];
        # The same random histories each time, as in ./check.
        env.PROPTEST_RNG_SEED = "1055";
      }
    );
  };
}
