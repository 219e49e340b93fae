// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// `examples/migrate-part.sh`, called by the schedulers that docs/migrating.md names.
@Suite(.fewAtATime)
struct MigrationPartTests {
    /// Three AES images and their list, of which two parts are made.
    private struct Images {
        let directory: TemporaryDirectory
        private var disks: [Data] = []

        init() async throws {
            directory = try TemporaryDirectory()
            let maker = ShapeMaker(directory: directory)
            var list = "# image, secret\n\n"
            for index in 0..<3 {
                let layer = try await maker.create(.qcow2AES, "\(index).img", size: 1 << 20)
                let chain = ShapeChain(layers: [layer])
                try await chain.io([try maker.write(index << 16, 1 << 16, mark: UInt8(index + 1))])
                disks.append(try await chain.oracle(in: directory))
                list += "\(index).img\tpassphrase-file:\(try #require(layer.passphrasePath))\n"
            }
            try directory.write("images.txt", text: list)
        }

        /// Runs `script` in the directory, with the example and the program in it.
        @discardableResult
        func shell(_ script: String) async throws -> String {
            try await Tool.shell(
                """
                export NBDECRYPT=\(try Program.path) PATH="\(Program.root)/examples:$PATH:/usr/sbin"
                cd \(directory.path)
                \(script)
                """)
        }

        /// Is every new image what QEMU reads of the old one, and do later runs find nothing to do?
        func expectCopies(sourceLocation: SourceLocation = #_sourceLocation) async throws {
            for (path, index) in [("1-of-2/0", 0), ("2-of-2/1", 1), ("1-of-2/2", 2)] {
                let found = try File.contents(directory.file("new/\(path).raw"))
                #expect(Difference.describe(found, disks[index]) == nil, sourceLocation: sourceLocation)
            }
            let again = try await shell("migrate-part.sh 1 2 images.txt new --to raw --json")
            #expect(again.components(separatedBy: "\"before\"").count == 3, "\(again)", sourceLocation: sourceLocation)
        }
    }

    private func withImages(_ body: (Images) async throws -> Void) async throws {
        let images = try await Images()
        defer { images.directory.remove() }
        try await body(images)
    }

    @Test func `tasks of a Slurm job array share a list`() async throws {
        try await withImages { images in
            // One node, without daemons of the system. Ports are taken in a row until two are free.
            try await images.shell(
                """
                host=$(hostname -s) user=$(id -un)
                export SLURM_CONF=$PWD/slurm.conf
                for port in $(shuf -i 20000-30000 -n 20); do
                    mkdir -p state spool
                    cat > slurm.conf <<END
                ClusterName=test
                SlurmctldHost=$host(127.0.0.1)
                SlurmctldPort=$port
                SlurmdPort=$((port + 1))
                AuthType=auth/none
                CredType=cred/none
                SlurmUser=$user
                SlurmdUser=$user
                StateSaveLocation=$PWD/state
                SlurmdSpoolDir=$PWD/spool
                SlurmctldPidFile=$PWD/slurmctld.pid
                SlurmdPidFile=$PWD/slurmd.pid
                ProctrackType=proctrack/linuxproc
                TaskPlugin=task/none
                SwitchType=switch/none
                MpiDefault=none
                SelectType=select/cons_tres
                SelectTypeParameters=CR_Core
                NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
                PartitionName=all Nodes=ALL Default=YES State=UP
                END
                    slurmctld -D > slurmctld.log 2>&1 & controller=$!
                    slurmd -D > slurmd.log 2>&1 & node=$!
                    trap 'kill $node $controller; wait' EXIT
                    for try in $(seq 300); do
                        kill -0 $controller $node 2> /dev/null || break
                        ! sinfo -h -t idle | grep -q . || break 2
                        sleep 0.1
                    done
                    trap - EXIT
                    kill $node $controller 2> /dev/null || true
                    wait
                done
                sbatch --wait --array=1-2 -o 'task-%a.log' --wrap 'exec migrate-part.sh "$SLURM_ARRAY_TASK_ID" 2 images.txt new \\
                    --to raw' || { tail -n 20 *.log; exit 1; }
                """)
            try await images.expectCopies()
        }
    }

    @Test func `GNU parallel spreads a list over machines with ssh`() async throws {
        try await withImages { images in
            try await images.shell(
                """
                ssh-keygen -q -t ed25519 -N '' -f host
                ssh-keygen -q -t ed25519 -N '' -f key
                [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
                for port in $(shuf -i 20000-30000 -n 20); do
                    printf '%s\\n' "ListenAddress 127.0.0.1:$port" "HostKey $PWD/host" "AuthorizedKeysFile $PWD/key.pub" \\
                        'StrictModes no' 'UsePAM no' 'PermitRootLogin prohibit-password' "PidFile $PWD/sshd.pid" \\
                        'AcceptEnv NBDECRYPT' > sshd_config
                    "$(command -v sshd)" -D -e -f sshd_config 2> sshd.log & server=$!
                    trap 'kill $server; wait' EXIT
                    until grep -q listening sshd.log; do kill -0 $server 2> /dev/null || continue 2; sleep 0.05; done
                    break
                done
                printf '%s\\n' 'Host one two' 'HostName 127.0.0.1' "Port $port" "IdentityFile $PWD/key" 'BatchMode yes' \\
                    'StrictHostKeyChecking accept-new' "UserKnownHostsFile $PWD/known" 'SendEnv NBDECRYPT' > ssh_config
                printf '%s\\n' one two > machines
                parallel --ssh "ssh -F $PWD/ssh_config" --sshloginfile machines --jobs 1 --joblog log \\
                    \(Program.root)/examples/migrate-part.sh {} 2 "$PWD/images.txt" "$PWD/new" --to raw ::: {1..2} || {
                    cat sshd.log; exit 1
                }
                [ "$(cut -f 2 log | sort -u | wc -l)" = 3 ] # A title, and two machines.
                """)
            try await images.expectCopies()
        }
    }

    @Test func `the pods of the Kubernetes Job have a part each`() async throws {
        try await withImages { images in
            // What the manifest says is run, but for the places and the number of parts.
            let read = """
                import json, sys, yaml
                job = yaml.safe_load(open(sys.argv[1]))
                assert (job["apiVersion"], job["kind"], job["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
                pod = job["spec"]["template"]["spec"]
                container, = pod["containers"]
                mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
                assert {m["name"] for m in mounts.values()} == {v["name"] for v in pod["volumes"]}
                assert mounts["/images"]["readOnly"] and not mounts["/new"].get("readOnly")
                shell, option, script = container["command"]
                assert (shell, option) == ("/bin/sh", "-c") and f' {job["spec"]["completions"]} /images/' in script
                for old, new in [(" 8 /images/", " 2 images/"), (" /new ", " new "), ("/secret/", "secret/"), ("images/", "")]:
                    assert old in script
                    script = script.replace(old, new)
                print(script.replace("qcow2-luks", "raw").replace("--new-passphrase-file secret/passphrase", ""))
                """
            let reader = try images.directory.write("read.py", text: read)
            try await images.shell(
                """
                python3 \(reader) \(Program.root)/examples/migrate-job.yaml > pod.sh
                for index in 0 1; do JOB_COMPLETION_INDEX=$index sh pod.sh; done
                """)
            try await images.expectCopies()
        }
    }

    @Test func `numbers that make no sense are refused, and a part may be empty`() async throws {
        try await withImages { images in
            for numbers in ["0 2", "3 2", "x 2", "1 0", "1 2x"] {
                let output = try await images.shell(
                    "migrate-part.sh \(numbers) images.txt new --to raw 2>&1 || echo $?")
                #expect(output.hasSuffix("64\n"), "\(output)")
            }
            let output = try await images.shell("migrate-part.sh 4 4 images.txt new --to raw 2>&1")
            #expect(output.contains("nothing for part 4 of 4"))
        }
    }
}
