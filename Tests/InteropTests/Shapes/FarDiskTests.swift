// SPDX-License-Identifier: Apache-2.0

import BlockIO
import Crypto
import DiskStack
import Foundation
import ImageFormats
import SystemPackage
import TestSupport
import Testing

@testable import nbdecrypt

/// Images by QEMU and cryptsetup on a machine far away, opened as the program opens files: the same disks come out.
@Suite struct FarDiskTests {
    private let directory: TemporaryDirectory
    private let clock = VirtualClock()
    private let host: SimulatedHost

    init() throws {
        directory = try TemporaryDirectory()
        host = SimulatedHost(clock: clock)
    }

    /// Round trips so far.
    private var roundTrips: Int { Int(clock.now / SimulatedSource.Behaviour().latency) }

    /// Puts files of the directory on the machine.
    private func upload(_ names: String...) throws {
        for name in names {
            host.add(name, try FileDevice(path: FilePath(directory.file(name)), excludesWriters: false))
        }
    }

    private func options(_ source: ImageSource, _ change: (inout OpeningOptions) -> Void = { _ in }) -> OpeningOptions {
        var options = OpeningOptions(source)
        options.sources = host.opener
        change(&options)
        return options
    }

    private func disks(_ options: OpeningOptions, _ passphrase: String?) throws -> [OpenDisk] {
        let secrets = try passphrase.map { try GivenSecrets(passphraseFile: $0) } ?? GivenSecrets()
        return try DiskOpener(options, secrets: secrets).disks()
    }

    /// The disk of an image far away, after every byte of it was compared with that of the same image as a file.
    @discardableResult
    private func compare(
        _ name: String, passphrase: String? = nil,
        _ change: (inout OpeningOptions, (String) -> ImageSource) -> Void = { _, _ in }
    ) throws -> (disk: any BlockDevice, opening: Int) {
        let file = try disks(
            options(ImageSource(directory.file(name))) { change(&$0) { ImageSource(directory.file($0)) } }, passphrase)
        let before = roundTrips
        let far = try disks(
            options(SimulatedHost.source(name)) { change(&$0) { SimulatedHost.source($0) } }, passphrase)
        let opening = roundTrips - before
        #expect(far.map(\.name) == file.map(\.name) && far[0].device.size == file[0].device.size)
        for (one, other) in zip(far, file) {
            #expect(
                one.description.replacing("sim://host/", with: "\(directory.path)/") == other.description)
            for offset in stride(from: 0, to: one.device.size, by: 1 << 20) {
                let count = Int(min(1 << 20, one.device.size - offset))
                let (found, expected) = (
                    try one.device.read(count: count, at: offset), try other.device.read(count: count, at: offset)
                )
                #expect(found == expected, "\(one.name) at \(offset)")
            }
            #expect(try one.device.extents() == other.device.extents())
        }
        return (far[0].device, opening)
    }

    @Test func `a qcow2 image with AES is the same disk far away, and opened in few round trips`() async throws {
        defer { directory.remove() }
        let image = try await ImageMaker(directory: directory).mixed(ImageRecipe(isEncrypted: true, size: 8 << 20))
        try upload("image.qcow2")
        let (disk, opening) = try compare("image.qcow2", passphrase: image.passphrasePath)
        #expect(disk.depth == 64)
        #expect(opening <= 64, "\(opening)")
    }

    @Test func `a qcow2 image with LUKS is the same disk far away, and opened in few round trips`() async throws {
        defer { directory.remove() }
        let secret = try directory.write("passphrase", text: "correct horse")
        let plain = try directory.write("plain.raw", DiskContents(mark: 0x51).bytes(at: 0, count: 3 << 20, .noise))
        try await Tool.shell(
            """
            cd \(directory.path); for try in {1..100}; do qemu-img convert -q -f raw -O qcow2 --object secret,id=s,file=\(secret) \
            -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \(plain) image.qcow2 && break; done
            """)
        try upload("image.qcow2")
        let (disk, opening) = try compare("image.qcow2", passphrase: secret)
        #expect(try disk.read(count: 3 << 20, at: 0) == [UInt8](try File.contents(plain)))
        #expect(opening <= 16, "\(opening)")
    }

    @Test(arguments: ["luks1", "luks2"])
    func `a LUKS container is the same disk far away, and opened in few round trips`(type: String) async throws {
        defer { directory.remove() }
        let secret = try directory.write("passphrase", text: "correct horse")
        _ = try await LUKSMaker(directory: directory).format(type: type)
        try upload("disk.luks")
        let (_, opening) = try compare("disk.luks", passphrase: secret)
        #expect(opening <= 16, "\(opening)")
    }

    @Test func `a detached header is found far away, and so is the data`() async throws {
        defer { directory.remove() }
        let secret = try directory.write("passphrase", text: "correct horse")
        let maker = LUKSMaker(directory: directory)
        let path = try await maker.format()
        try await maker.cryptsetup(["luksHeaderBackup", path, "--header-backup-file", directory.file("header")])
        try await maker.cryptsetup(["luksErase", path])
        try upload("disk.luks", "header")
        try compare("disk.luks", passphrase: secret) { $0.luksHeader = $1("header") }
        // One of the two is enough, too.
        try compare("disk.luks", passphrase: secret) {
            $0.luksHeader = ImageSource(directory.file("header")); _ = $1
        }
    }

    /// A chain of two images, of which the upper one holds a part.
    ///
    /// - Parameter filled: how much the lower one holds, in MiB; the disk has 3 MiB more.
    private func makeChain(filled: Int = 5) async throws {
        try await Tool.shell(
            """
            cd \(directory.path); qemu-img create -q -f qcow2 base.qcow2 \(filled + 3)M
            qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
            qemu-io -f qcow2 -c 'write -q -P 1 0 \(filled)M' -c 'write -q -z \(filled)M 1M' base.qcow2
            qemu-io -f qcow2 -c 'write -q -P 2 1M 1M' -c 'write -q -P 3 7M 64k' top.qcow2
            """)
        try upload("base.qcow2", "top.qcow2")
    }

    @Test func `a chain of images far away is the same disk, each file being found beside the other`() async throws {
        defer { directory.remove() }
        try await makeChain()
        let (_, opening) = try compare("top.qcow2") { options, _ in options.selection.names = .all }
        #expect(opening <= 16, "\(opening)")
        #expect(host.source("base.qcow2")?.counts.operations.isEmpty == false)
    }

    @Test func `an external data file is found beside its image far away`() async throws {
        defer { directory.remove() }
        try await Tool.shell(
            """
            cd \(directory.path); qemu-img create -q -f qcow2 -o data_file=image.data image.qcow2 4M
            qemu-io -f qcow2 -c 'write -q -P 5 1M 1M' image.qcow2
            """)
        try upload("image.qcow2", "image.data")
        try compare("image.qcow2")
        #expect(host.source("image.data")?.counts.operations.isEmpty == false)
    }

    @Test func `the format of a backing file far away is what the caller says`() async throws {
        defer { directory.remove() }
        try await Tool.shell(
            """
            cd \(directory.path); qemu-img create -q -f qcow2 base.qcow2 1M
            qemu-io -f qcow2 -c 'write -q -P 1 0 1M' base.qcow2
            qemu-img create -q -f qcow -b base.qcow2 -F qcow2 top.qcow
            """)
        try upload("base.qcow2", "top.qcow")
        try compare("top.qcow") { options, _ in
            if let value = try? BackingFormats.Value("1=qcow2"), let formats = try? BackingFormats([value]) {
                options.formats = formats
            }
        }
        let error = #expect(throws: OpeningError.self) { try disks(options(SimulatedHost.source("top.qcow")), nil) }
        #expect(error?.sentence.remedies.contains(.backingFormat(layer: 1, format: "qcow2")) == true)
    }

    @Test func `a chain far away that leads back to its top is damaged, and ends`() async throws {
        defer { directory.remove() }
        try await makeChain()
        try await Tool.shell("cd \(directory.path); qemu-img rebase -u -f qcow2 -b top.qcow2 -F qcow2 base.qcow2")
        let error = #expect(throws: OpeningError.self) { try disks(options(SimulatedHost.source("top.qcow2")), nil) }
        #expect(error?.code == .badImage)
        #expect(
            error?.description.hasPrefix(
                "sim://host/top.qcow2: layer 1 (sim://host/base.qcow2): backing file at byte 8: found top.qcow2, which is above "
                    + "itself in the chain") == true, "\(error?.description ?? "")")
    }

    @Test func `what is not beside an image far away is named, with what to do`() async throws {
        defer { directory.remove() }
        try await makeChain()
        for (name, says) in [
            ("none.qcow2", "the backing file (none.qcow2): the machine has no such image"),
            ("/etc/hostname", "the backing file (/etc/hostname) does not lie beside the image, which is far away"),
            (
                "nbd://host/base",
                "is not a file but reached by a protocol, which is never opened; copy the image to a file"
            ),
        ] {
            try await Tool.shell(
                "cd \(directory.path); qemu-img rebase -u -f qcow2 -b \(name) -F qcow2 top.qcow2")
            let error = #expect(throws: OpeningError.self) {
                try disks(options(SimulatedHost.source("top.qcow2")) { $0.references = FileReferences(.allow) }, nil)
            }
            #expect(error?.description.contains(says) == true, "\(error?.description ?? "")")
        }
    }

    @Test func `audit and info examine an image far away as they do a file`() async throws {
        defer { directory.remove() }
        try await makeChain()
        let audit = try ImageAudit(options(SimulatedHost.source("top.qcow2")), log: OpeningLog { _ in })
        #expect(audit.layers.map(\.name) == ["sim://host/top.qcow2", "sim://host/base.qcow2"])
        #expect(audit.layers.map(\.isSound) == [true, true])
        let log = OpeningLog { _ in }
        let source = try host.opener.open(SimulatedHost.source("base.qcow2"))
        let report = try ImageExamination(
            source, format: nil, luksHeader: nil, sources: host.opener, plaintext: [],
            part: PartSelection(image: source.name, log: log), volume: nil,
            opener: ContainerOpener(
                ring: SecretRing(GivenSecrets(), log: log), options: LUKSUnlock.Options(), log: log, mayAsk: false)
        ).report
        #expect(report.image == "sim://host/base.qcow2" && report.virtualSize == 8 << 20)
        #expect(report.clusters?.allocated == 80)
    }

    @Test func `no command of cryptsetup is advised for a container far away`() async throws {
        defer { directory.remove() }
        let path = try await LUKSMaker(directory: directory).format()
        try upload("disk.luks")
        func commands(_ source: ImageSource) throws -> [String] {
            let container = try LUKSContainer(source: try host.opener.open(source))
            return LUKSReport(container, path: source.name, allowing: []).verdict.commands
        }
        #expect(try commands(ImageSource(path)).contains { $0.hasPrefix("cryptsetup ") })
        #expect(try !commands(SimulatedHost.source("disk.luks")).contains { $0.contains("cryptsetup") })
    }

    // MARK: What goes wrong

    @Test func `an image that is replaced while it is read gives no more bytes, not even those in memory`() async throws
    {
        defer { directory.remove() }
        try await makeChain(filled: 48)
        let disk = try disks(options(SimulatedHost.source("top.qcow2")), nil)[0].device
        #expect(try disk.read(count: 1, at: 0) == [1])
        host.source("base.qcow2")?.replace()
        // The upper image is as it was.
        #expect(try disk.read(count: 1, at: 1 << 20) == [2])
        #expect(throws: BlockError.changed) { try disk.read(count: 1, at: 40 << 20) }
        #expect(throws: BlockError.changed) { try disk.read(count: 1, at: 0) }
    }

    @Test func `an image whose connection is lost gives what is in memory, and the rest when it is back`() async throws
    {
        defer { directory.remove() }
        try await makeChain(filled: 48)
        let disk = try disks(options(SimulatedHost.source("top.qcow2")), nil)[0].device
        let base = try #require(host.source("base.qcow2"))
        #expect(try disk.read(count: 1, at: 0) == [1])
        base.behaviour.isDisconnected = true
        #expect(try disk.read(count: 1, at: 0) == [1])
        #expect(throws: BlockError.disconnected("sim: the connection is lost")) {
            try disk.read(count: 1, at: 40 << 20)
        }
        base.behaviour.isDisconnected = false
        #expect(try disk.read(count: 1, at: 40 << 20) == [1])
    }

    @Test func `an image far away that stops answering while it is opened is told of`() async throws {
        defer { directory.remove() }
        try await makeChain()
        host.source("base.qcow2")?.behaviour.fault = { _ in .held }
        let error = #expect(throws: OpeningError.self) { try disks(options(SimulatedHost.source("top.qcow2")), nil) }
        #expect(error?.description.contains("no answer within 30.0 seconds") == true, "\(error?.description ?? "")")
        host.source("base.qcow2")?.answerHeld()
    }

    @Test func `an image far away is written to only where that is wanted and somebody takes care`() async throws {
        defer { directory.remove() }
        host.add("disk", MemoryDevice([UInt8](repeating: 0, count: 4096), isWritable: true))
        let source = SimulatedHost.source("disk")
        var options = options(source)
        options.format = .raw
        #expect(try disks(options, nil)[0].device.isWritable == false)
        options.isWritable = true
        let error = #expect(throws: OpeningError.self) { try disks(options, nil) }
        #expect(error?.description.hasPrefix("sim://host/disk: it is far away, where nothing keeps other") == true)
        options.allowsUnlocked = true
        let disk = try disks(options, nil)[0].device
        var bytes: [UInt8] = [1, 2, 3]
        try bytes.withMutableBytes { bytes in try disk.write(&bytes, at: 5, []) }
        #expect(try disk.read(count: 4, at: 4) == [0, 1, 2, 3])
    }
}
