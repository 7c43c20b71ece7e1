machine.start()
machine.wait_for_unit("multi-user.target")
machine.succeed("for n in $(seq 60); do echo \"line $n\" >/dev/console; done")
machine.succeed("echo what it printed; echo console-$((40 + 2)) >/dev/console; exit 9")
