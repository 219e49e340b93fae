// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Every command that the program can print is run by a test as it is printed, or is listed here with the reason why not.
///
/// Options of the program itself that a sentence advises are tested with the refusal that advises them.
@Suite struct PrintedCommandInventoryTests {
    /// What becomes of a mention of a program in a string of the sources.
    private enum Use {
        /// A command; the test that runs it, by its file without ".swift" and its function.
        case run(by: String, String)
        /// No command: the name of a program in a sentence, or one that is not for tests.
        case word(_ why: String)
    }

    private static let inGuest = "names the program for the machine that has the drive, or the version that is needed"

    /// By the file in Sources and the mention.
    private static let uses: [String: Use] = [
        "FileDevice.swift: lsblk and ": .word("programs that show what uses a device"),
        "FileDevice.swift: findmnt show whose": .word("programs that show what uses a device"),
        "CipherSpecParser.swift: cryptsetup opens it, with the kernel's": .word("says who opens such a container"),
        "LUKS2BinaryHeader.swift: cryptsetup writes ": .word("says what is usual"),
        "LUKS2Field.swift: base64": .word("the encoding of a field"),
        "LUKS2Header.swift: cryptsetup repair DEVICE": .run(
            by: "PrintedCommandTests",
            "a damaged copy of a header is written anew by the command that the warning prints"),
        "LUKS2Header.swift: cryptsetup luksHeaderRestore --header-backup-file BACKUP DEVICE":
            .run(
                by: "PrintedCommandTests",
                "a header of which no copy can be used comes back by the command that is printed"),
        "LUKSHeader.swift: cryptsetup reencrypt (before version 2.5":
            .word("goes on where it began, with its files there; needs a kernel with dm-crypt"),
        "LUKSHeader.swift: cryptsetup-reencrypt": .word("no longer in Debian 12"),
        "LUKSSupport.swift: cryptsetup reencrypt --resume-only DEVICE": .run(
            by: "PrintedCommandTests",
            "a reencryption that was interrupted goes on by the command that the refusal prints"),
        "LUKSSupport.swift: cryptsetup sees the disk": .word("says where to type the command"),
        "LUKSSupport.swift: cryptsetup-reencrypt of a cryptsetup before 2.5, which began it":
            .word("no longer in Debian 12"),
        "LUKSSupport.swift: cryptsetup on the machine that has the drive": .word(inGuest),
        "LUKSSupport.swift: cryptsetup that made it": .word(inGuest),
        "LUKSSupport.swift: cryptsetup and copy the disk": .word(inGuest),
        "LUKSUnlock+Keyslots.swift: nbdecrypt info": .word("says which command shows the keyslots"),
        "LUKSUnlock.swift: cryptsetup luksDump --dump-volume-key --volume-key-file NEW DEVICE":
            .run(
                by: "PrintedCommandTests", "the volume key that fits is written by the command that the refusal prints"),
        "ImageProbe.swift: rbd flatten --encryption-format luks --encryption-passphrase-file FILE ":
            .word("needs a cluster of Ceph 18, and the rbd of Debian 12 is of Ceph 16"),
        "ImageProbe.swift: qemu-nbd serves it": .word("says which program reads the format"),
        "QcowHeader.swift: qemu-nbd --read-only --persistent --socket=$PWD/nbd.sock":
            .run(
                by: "PrintedCommandTests",
                "a qcow image with too large a table is served by the command that the refusal prints"),
        "AuditLeak.swift: qemu-img amend -o data_file_raw=off": .run(
            by: "PrintedRepairTests",
            "the mark of a data file that holds ciphertext is cleared by the command that audit prints"),
        "AuditedLayer.swift: qemu-img check -r leaks": .run(
            by: "PrintedRepairTests", "lost clusters are freed by the command that audit prints"),
        "Qcow2BitmapEntry.swift: qemu-img bitmap --remove": .run(
            by: "PrintedCommandTests", "a bitmap that was in use is removed by the command that is printed"),
        "Qcow2Marks.swift: qemu-img check -r all": .run(
            by: "PrintedRepairTests",
            "a dirty bit and a corrupt bit are explained, and taken away by the command that audit and serve print"),
        "Qcow2Support.swift: qemu-img amend -o data_file=NAME": .run(
            by: "PrintedRepairTests", "a data file without a name gets one by the command that the refusal prints"),
        "ListeningSocket.swift: modprobe vsock": .word("a question; a module of the kernel"),
        "Server.swift: ulimit -n": .word("names a limit; the shell's command wants a number"),
        "Serving.swift: ulimit -n": .word("names a limit; the shell's command wants a number"),
        "CommandSecrets.swift: ulimit -l": .word("names a limit; the shell's command wants a number"),
        "PreSharedKeys.swift: psktool -u USER -p ": .run(
            by: "TLSOptionTests", "a file without keys gets one by the command that the refusal prints"),
        "PreSharedKeys.swift: chmod 600 it": .word("says how to protect a file"),
        "PreSharedKeysParser.swift: psktool -u USER -p ": .word(
            "says what writes such lines; it is run where there is none"),
        "TLSCertificateLoader.swift: chmod 600 it": .word("says how to protect a file"),
        "TLSCertificateLoader.swift: openssl pkey writes it": .word("says which form is meant"),
        "TLSOptions.swift: psktool's format": .word("says which form is meant"),
        "FormatDecision.swift: qemu-img convert": .word("names the program; the format is one that only it reads"),
        "FormatDecision.swift: qemu-img convert, ": .word("names the program; the format is one that only it reads"),
        "ImageChain.swift: qemu-img rebase": .word("names the program; which layer goes is for a person to say"),
        "ImageOpener.swift: qemu-img may hang at the end": .word("says which client not to use"),
        "ImageOpener.swift: nbdcopy": .word("says which client to use"),
        "SourceOpener.swift: nbdcopy ": .run(
            by: "RefusalTests", "the command that is printed for the URL of an NBD server copies the image"),
        "SourceURL.swift: rbd": .word("a protocol"),
        "SourceURL.swift: ssh": .word("a protocol"),
        "DiskReport.swift: nbdecrypt serve ": .run(
            by: "VolumeInfoTests",
            "the volumes of a group are listed with size, contents, and why not or how they are served"),
        "InfoReport.swift: nbdecrypt serve ": .run(
            by: "InfoTests", "the command that it prints moves the disk to LUKS, whatever the image is called"),
        "InfoReport.swift: qemu-img convert -p -f raw -O qcow2 ": .run(
            by: "InfoTests", "the command that it prints moves the disk to LUKS, whatever the image is called"),
        "Instructions.swift: nbdcopy -p ": .run(
            by: "InstructionTests", "qemu-img and nbdcopy copy the disk as printed"),
        "Instructions.swift: nbd-client, the disk lacks its last ": .word("says what a command leaves out"),
        "Instructions.swift: sudo": .run(
            by: "InstructionTests", "nbd-client negotiates as printed, up to the device, which is not there"),
        "Instructions.swift: nbd-client": .run(
            by: "InstructionTests", "nbd-client negotiates as printed, up to the device, which is not there"),
        "CryptsetupDifferences.swift: cryptsetup open uses segment ": .word("says what cryptsetup does otherwise"),
        "CryptsetupDifferences.swift: cryptsetup open ignores the iv_tweak ": .word(
            "says what cryptsetup does otherwise"),
        "CryptsetupDifferences.swift: cryptsetup open takes the whole device for the segment, nbdecrypt its ":
            .word("says what cryptsetup does otherwise"),
        "LUKSVerdict.swift: cryptsetup repair ": .run(
            by: "LUKSInfoTests",
            "every command that is printed runs on the container it is printed for, and the disk stays the same"),
        "LUKSVerdict.swift: cryptsetup reencrypt --resume-only ": .run(
            by: "LUKSReencryptionTests",
            "the disk is served byte for byte under the old key, and the command that is printed goes on"),
        "LUKSVerdict.swift: cryptsetup luksChangeKey --iter-time 5000 ": .run(
            by: "LUKSInfoTests",
            "a container of QEMU, which cryptsetup cannot convert, gets the command that makes its keyslot stronger"),
        "LUKSVerdict.swift: cryptsetup convert makes of it": .word("says what a command makes"),
        "LUKSVerdict.swift: cryptsetup convert --type luks2 ": .run(
            by: "LUKSInfoTests", "the verdict names what is weak, and its commands mend it"),
        "LUKSVerdict.swift: cryptsetup luksConvertKey --pbkdf argon2id ": .run(
            by: "LUKSInfoTests",
            "every command that is printed runs on the container it is printed for, and the disk stays the same"),
        "LUKSVerdict.swift: cryptsetup reencrypt ": .run(
            by: "LUKSInfoTests",
            "every command that is printed runs on the container it is printed for, and the disk stays the same"),
        "LUKSVerdict.swift: nbdecrypt serve ": .run(
            by: "PrintedCommandTests",
            "the commands for a container that cryptsetup does not see make a new image of the same disk"),
        "LUKSVerdict.swift: qemu-img convert -p -f raw -O qcow2 ": .run(
            by: "PrintedCommandTests",
            "the commands for a container that cryptsetup does not see make a new image of the same disk"),
        "ListenOptions.swift: ssh tunnel, ": .word("says what protects a connection"),
        "QEMUCommands.swift: qemu-img convert -p ": .run(
            by: "InstructionTests", "qemu-img and nbdcopy copy the disk as printed"),
        "QEMUCommands.swift: qemu-system-x86_64 -m 2G ": .run(
            by: "InstructionTests", "QEMU opens the drive as printed"),
        "RenameCommand.swift: qemu-img convert ": .run(
            by: "NamedFilesTests", "what only QEMU can read is copied and named by the commands that the refusal prints"
        ),
        "RenameCommand.swift: qemu-img rebase -u ": .run(
            by: "NamedFilesTests",
            "a file that is described with its secret gets a plain name by the command that the refusal prints"),
        "RenameCommand.swift: qemu-img amend -o data_file=": .run(
            by: "NamedFilesTests", "a data file that is not there is named anew by the command that the message prints"),
        "RenameCommand.swift: qemu-img convert -O qcow2 ": .run(
            by: "NamedFilesTests",
            "an image of qcow version 1, which cannot be renamed in, is copied by the command that the refusal prints"),
        "SecretShape.swift: tr -d '[": .run(
            by: "SecretHintTests",
            "a key that was written down as text is recognised, and the printed command makes the key"),
        "SecretShape.swift: tr a-f A-F | basenc --base16 -d": .run(
            by: "SecretHintTests",
            "a key that was written down as text is recognised, and the printed command makes the key"),
        "SecretShape.swift: base64": .word("the name of an encoding"),
        "SecretShape.swift: base64 -di": .run(
            by: "SecretHintTests",
            "a key that was written down as text is recognised, and the printed command makes the key"),
        "SecretShape.swift: cat ": .run(
            by: "SecretHintTests",
            "a key that was written down as text is recognised, and the printed command makes the key"),
    ]

    @Test
    func `nothing that looks like a command is in a string of the sources without a test that runs it, or a reason`()
        throws
    {
        let found = Set(try Self.mentions())
        #expect(found.subtracting(Self.uses.keys) == [], "add these to the table, and a test that runs them")
        #expect(Set(Self.uses.keys).subtracting(found) == [], "these are no longer printed")
    }

    @Test func `the tests that are said to run printed commands are there`() throws {
        let sources = try Self.swiftFiles("Tests/InteropTests")
        for case .run(let file, let function) in Self.uses.values {
            let path = try #require(sources.first { $0.hasSuffix("/\(file).swift") }, "\(file)")
            #expect(try File.text(path).contains("func `\(function)`("), "\(file).\(function)")
        }
    }

    /// Programs that a person may be told to start.
    private static let programs = [
        "cryptsetup(?:-reencrypt)?", "qemu-(?:img|nbd|io|system-\\w+)", "rbd", "nbd-client", "nbd(?:copy|info|fuse)",
        "basenc", "base64", "xxd", "od", "printf", "tr", "cat", "cp", "dd", "truncate", "tail", "lsblk", "findmnt",
        "s?fdisk", "parted", "wipefs", "losetup", "mount", "umount",
        "(?:vg|lv|pv)(?:change|create|display|remove|s|scan)", "mdadm",
        "systemctl", "systemd-\\w+ ", "ssh", "openssl", "certtool", "psktool", "chmod", "chown", "ulimit", "prlimit",
        "sysctl", "modprobe", "kill", "lsof", "fuser", "setfacl", "sudo", "nbdecrypt (?:serve|info|audit)",
    ]

    /// Mentions of programs in strings of the sources, to the end of the text, or of the part before a value.
    private static func mentions() throws -> [String] {
        let program = try NSRegularExpression(
            pattern: "(?<![\\w./-])(?:\(programs.joined(separator: "|")))(?![\\w])[^\"\\\\;:)`]*")
        return try swiftFiles("Sources").filter { !$0.contains("/TestSupport/") }.flatMap { path in
            let name = (path as NSString).lastPathComponent
            return try File.text(path).components(separatedBy: "\n").flatMap { line -> [String] in
                guard !line.drop(while: { $0 == " " }).hasPrefix("//"), let begin = line.firstIndex(of: "\""),
                    let end = line.lastIndex(of: "\""), begin < end
                else { return [] }
                let text = String(line[line.index(after: begin)..<end])
                let whole = NSRange(location: 0, length: text.utf16.count)
                return program.matches(in: text, range: whole).map {
                    "\(name): \((text as NSString).substring(with: $0.range))"
                }
            }
        }
    }

    private static func swiftFiles(_ directory: String) throws -> [String] {
        let root = "\(Program.root)/\(directory)"
        let names = try #require(FileManager.default.enumerator(atPath: root))
        return names.compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") }.map { "\(root)/\($0)" }
    }
}
