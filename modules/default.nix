# All modules. Each does nothing until it is enabled.
{
  imports = [
    ./orchestrator.nix
    ./secrets.nix
    ./ssh.nix
    ./tailscaled.nix
  ];
}
