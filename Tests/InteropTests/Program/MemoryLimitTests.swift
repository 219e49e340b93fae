// SPDX-License-Identifier: Apache-2.0

import Testing

/// Keys that take more memory than the container has in which the program runs.
@Suite(.fewAtATime)
struct MemoryLimitTests {
    @Test(arguments: ["/docker/abc", "/not/seen/here", "/../.."])
    func `argon2 that does not fit the limit of a cgroup of version 1 is refused`(_ path: String) async throws {
        let directory = try TemporaryDirectory()
        defer { directory.remove() }
        let maker = LUKSMaker(directory: directory)
        let image = try await maker.format(
            passphrase: "correct horse",
            options: [
                "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "262144", "--pbkdf-parallel",
                "1",
            ])
        let passphrase = try directory.write("passphrase", text: "correct horse")
        // What such a container shows; nothing is really limited.
        let groups = directory.file("groups")
        try await Tool.shell(
            """
            mkdir -p \(groups)/memory/docker/abc
            cd \(groups)/memory
            echo 134217728 > memory.limit_in_bytes
            echo 9000000 > memory.usage_in_bytes
            echo 'total_inactive_file 0' > memory.stat
            cp memory.* docker/abc
            """)
        let membership = try directory.write("membership", text: "4:memory:\(path)\n1:name=systemd:\(path)\n0::/\n")
        let serve =
            "\(try Program.path) serve \(image) --passphrase-file \(passphrase) --socket \(directory.file("s")) --run true"
        let outcome = try await Tool.run(
            "unshare",
            [
                "--map-root-user", "--mount", "sh", "-c",
                "mount --bind \(groups) /sys/fs/cgroup && mount --bind \(membership) /proc/$$/cgroup && exec \(serve)",
            ])
        #expect(outcome.code == 65, "\(outcome.errors)")
        for part in ["memory.limit_in_bytes of /sys/fs/cgroup/memory", "262144 KiB"] {
            #expect(outcome.errors.contains(part), "\(outcome.errors)")
        }
    }
}
