# docs/nixos-options.md: every option of the modules, as text. `nix eval --raw .#lib.optionsDoc > docs/nixos-options.md` writes it anew.
{ nixpkgs, module }:
let
  inherit (nixpkgs) lib;

  declared =
    (lib.evalModules {
      modules = [
        module
        # The rest of NixOS is not described; what is written to it is dropped.
        {
          _module.check = false;
          _module.args.pkgs = stubs;
        }
      ];
    }).options;

  # Only names are read of what a description says about packages.
  stubs = {
    inherit lib;
    formats.toml = _: {
      type = lib.types.attrsOf lib.types.anything // {
        description = "TOML value";
      };
    };
  };

  options = lib.filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList declared.services
  );

  code =
    value:
    let
      short = lib.generators.toPretty { multiline = false; } value;
      long = lib.generators.toPretty { } value;
      text = value.text or (if lib.stringLength short < 100 then short else long);
    in
    if value._type or "" == "literalMD" then
      text
    else if lib.hasInfix "\n" text then
      "\n\n```nix\n${lib.removeSuffix "\n" text}\n```"
    else
      "`${text}`";

  # The markup of NixOS's own manual, in plain Markdown.
  plain =
    text:
    lib.concatStrings (
      map (part: if lib.isList part then "`${lib.elemAt part 0}`" else part) (
        builtins.split "\\{[a-z]+}`([^`]*)`" text
      )
    );

  # A block begins its own line.
  gap = value: lib.optionalString (!(lib.hasPrefix "\n" (code value))) " " + plain (code value);

  section = option: ''

    ### `${option.name}`

    ${lib.trim (plain (option.description.text or option.description or ""))}

    - Type: ${
      lib.replaceStrings [ "open submodule of " ] [ "" ] option.type
    }${lib.optionalString option.readOnly ", read-only"}
    ${lib.optionalString (option ? default) "- Default:${gap option.default}\n"}${
      lib.optionalString (option ? example) "- Example:${gap option.example}\n"
    }'';
in
''
  # Options of the NixOS modules

  Generated from `modules/`; `nix eval --raw .#lib.optionsDoc > docs/nixos-options.md` writes it anew. What to do with them:
  [nixos.md](nixos.md). The keys that `settings` takes besides: [config.md](config.md).
''
+ lib.concatMapStrings section options
