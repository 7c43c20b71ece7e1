# Every assertion of the modules says what to do, and is one that the files beside this one make fire: they name its words in
# what they expect, and nothing else may be said there.
{ lib, ... }:
let
  nixFiles =
    folder: lib.filter (lib.hasSuffix ".nix") (map toString (lib.filesystem.listFilesRecursive folder));
  sourceLines = file: lib.splitString "\n" (builtins.readFile file);

  # The text of each message as it is in the source, one a line.
  messages = lib.concatMap (
    file:
    lib.concatMap (
      line:
      let
        found = builtins.match " *message = \"(.*)\";" line;
      in
      lib.optional (found != null) (lib.head found)
    ) (sourceLines file)
  ) (nixFiles ../../modules);
  # Those that are written otherwise would not be seen.
  written = lib.count (line: builtins.match " *message =.*" line != null) (
    lib.concatMap sourceLines (nixFiles ../../modules)
  );

  expected = lib.concatMapStrings builtins.readFile (
    lib.filter (file: !lib.hasSuffix "/coverage.nix" file) (nixFiles ./.)
  );

  # The longest piece that is the same in each machine's message.
  words =
    message:
    lib.foldl' (
      longest: piece: if lib.stringLength piece > lib.stringLength longest then piece else longest
    ) "" (lib.filter lib.isString (builtins.split "\\$\\{[^}]*}" message));
in
[
  {
    what = "${toString written} messages are in the modules, and ${toString (lib.length messages)} of them on one line";
    holds = written == lib.length messages && written > 20;
  }
]
++ lib.concatMap (message: [
  {
    what = "no test expects the message ${message}";
    holds = lib.hasInfix (words message) expected;
  }
  {
    what = "this message does not say what to do: ${message}";
    holds = builtins.match ".*[^;]; [^;]+" message != null;
  }
]) messages
