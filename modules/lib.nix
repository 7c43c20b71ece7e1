# What the modules share: sizes and paths, without any option.
{ lib }:
let
  factor = {
    "" = 1;
    K = 1024;
    M = 1024 * 1024;
    G = 1024 * 1024 * 1024;
    T = 1024 * 1024 * 1024 * 1024;
  };
in
rec {
  # systemd's own notation; `infinity` and percentages have no place in a sum.
  size = lib.types.strMatching "[0-9]+[KMGT]?" // {
    description = "size as in systemd.resource-control(5): bytes, or a number with K, M, G or T";
  };

  # "2G" -> 2147483648
  bytes =
    text:
    let
      parts = builtins.match "([0-9]+)([KMGT]?)" text;
    in
    lib.toInt (builtins.elemAt parts 0) * factor.${builtins.elemAt parts 1};

  # 2147483648 -> "2048M"
  megabytes = n: "${toString (n / factor.M)}M";

  duration = lib.types.strMatching "([0-9]+(ms|s|m|h|d) ?)+" // {
    description = "duration with its unit: \"5s\", \"15m\", \"1h 30m\", \"2d\"";
  };

  # A path that is text: a path literal would copy the file into the world-readable Nix store.
  outsideStore = lib.types.str // {
    name = "pathOutsideStore";
    description = "path outside of the Nix store, as a string";
    check = x: builtins.isString x && x != "" && !lib.hasPrefix builtins.storeDir x;
  };

  absolute = outsideStore // {
    name = "absolutePathOutsideStore";
    description = "absolute path outside of the Nix store, as a string";
    check = x: outsideStore.check x && lib.hasPrefix "/" x;
  };

  # Whether `path` stays below `folder`, to which it is relative unless absolute.
  isBelow =
    folder: path:
    !(builtins.elem ".." (lib.splitString "/" path))
    && (!lib.hasPrefix "/" path || lib.hasPrefix "${folder}/" path);

  # Leaves out what was not set: TOML has no null.
  given = lib.filterAttrs (_: value: value != null);
}
