// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Every command that the program can print is run by a test as it is printed, or is listed here with the reason why not.
///
/// Options of the program itself that a sentence advises are tested with the refusal that advises them.
@Suite struct PrintedCommandInventoryTests {
    /// What becomes of a mention of a program in a string of the sources.
    private enum Use {
        /// A command; the tests that run it wherever it is printed, each by its file without ".swift" and its sentence.
        case run(by: [String])
        /// No command: the name of a program in a sentence, or one that is not for tests.
        case word(_ why: String)
    }

    private static let inGuest = "names the program for the machine that has the drive, or the version that is needed"

    /// By the mention, wherever in the sources it is.
    private static let uses: [String: Use] = [
        "lsblk and ": .word("programs that show what uses a device"),
        "findmnt show whose": .word("programs that show what uses a device"),
        "cryptsetup": .word("the program that makes new containers, and its package"),
        "cryptsetup-bin": .word("the program's package"),
        "qemu-img": .word("the program that makes new images"),
        "qemu-img or cryptsetup has, 2000": .word("says who decides"),
        "cryptsetup opens it, with the kernel's": .word("says who opens such a container"),
        "cryptsetup writes ": .word("says what is usual"),
        "base64": .word("the encoding of a field"),
        "cryptsetup repair DEVICE": .run(by: [
            "PrintedCommandTests: a damaged copy of a header is written anew by the command that the warning prints"
        ]),
        "cryptsetup luksHeaderRestore --header-backup-file BACKUP DEVICE": .run(by: [
            "PrintedCommandTests: a header of which no copy can be used comes back by the command that is printed"
        ]),
        "cryptsetup reencrypt (before version 2.5": .word(
            "goes on where it began, with its files there; needs a kernel with dm-crypt"),
        "cryptsetup-reencrypt": .word("no longer in Debian 12"),
        "cryptsetup reencrypt --resume-only DEVICE": .run(by: [
            "PrintedCommandTests: a reencryption that was interrupted goes on by the command that the refusal prints"
        ]),
        "cryptsetup sees the disk": .word("says where to type the command"),
        "cryptsetup-reencrypt of a cryptsetup before 2.5, which began it": .word("no longer in Debian 12"),
        "cryptsetup on the machine that has the drive": .word(inGuest),
        "cryptsetup that made it": .word(inGuest),
        "cryptsetup and copy the disk": .word(inGuest),
        "nbdecrypt info": .word("says which command shows the keyslots"),
        "nbdecrypt audit": .word("says which command tells what is damaged"),
        "nbdecrypt audit tells more, and --allow-damaged copies what can be read": .word(
            "says which command tells what is damaged"),
        "qemu-img check": .word("says which program tells where the damage is"),
        "qemu-img convert -O qcow2 -o cluster_size=2M": .word("needs an image with more than 1 GiB of tables"),
        "cryptsetup luksDump --dump-volume-key --volume-key-file NEW DEVICE": .run(by: [
            "PrintedCommandTests: the volume key that fits is written by the command that the refusal prints"
        ]
        ),
        "rbd flatten --encryption-format luks --encryption-passphrase-file FILE ": .word(
            "needs a cluster of Ceph 18, and the rbd of Debian 12 is of Ceph 16"),
        "qemu-nbd serves it": .word("says which program reads the format"),
        "qemu-nbd --read-only --persistent --socket=$PWD/nbd.sock": .run(by: [
            "PrintedCommandTests: a qcow image with too large a table is served by the command that the refusal prints"
        ]),
        "qemu-img amend -o data_file_raw=off": .run(by: [
            "PrintedRepairTests: the mark of a data file that holds ciphertext is cleared by the command that audit prints"
        ]),
        "qemu-img check -r leaks": .run(by: [
            "PrintedRepairTests: lost clusters are freed by the command that audit prints"
        ]),
        "qemu-img bitmap --remove": .run(by: [
            "PrintedCommandTests: a bitmap that was in use is removed by the command that is printed"
        ]),
        "qemu-img check -r all": .run(by: [
            "PrintedRepairTests: a dirty bit and a corrupt bit are explained, and taken away by the command that audit and serve print"
        ]),
        "qemu-img amend -o data_file=NAME": .run(by: [
            "PrintedRepairTests: a data file without a name gets one by the command that the refusal prints"
        ]),
        "modprobe vsock": .word("a question; a module of the kernel"),
        "ulimit -n": .word("names a limit; the shell's command wants a number"),
        "ulimit -l": .word("names a limit; the shell's command wants a number"),
        "psktool -u USER -p ": .run(by: [
            "TLSOptionTests: a file without keys gets one by the command that the refusal prints"
        ]),
        "chmod 600 it": .word("says how to protect a file"),
        "openssl pkey writes it": .word("says which form is meant"),
        "psktool's format": .word("says which form is meant"),
        "qemu-img convert": .word("names the program; the format is one that only it reads"),
        "qemu-img convert, ": .word("names the program; the format is one that only it reads"),
        "qemu-img rebase": .word("names the program; which layer goes is for a person to say"),
        "qemu-img may hang at the end": .word("says which client not to use"),
        "nbdcopy": .word("says which client to use"),
        "rbd": .word("a protocol"),
        "ssh": .word("a protocol"),
        "nbdcopy ": .run(by: ["RefusalTests: the command that is printed for the URL of an NBD server copies the image"]
        ),
        "qemu-img create -f qcow2 --object secret,id=overlay,file=OVERLAY-SECRET ": .run(by: [
            "OverlayFileTests: an overlay is made, filled, gone on with, and committed by the commands that are printed"
        ]),
        "qemu-img commit ": .run(by: [
            "OverlayFileTests: an overlay is made, filled, gone on with, and committed by the commands that are printed"
        ]),
        "qemu-img rebase -u -b '' ": .run(by: [
            "OverlayFileTests: an overlay is made, filled, gone on with, and committed by the commands that are printed"
        ]),
        "nbdecrypt serve": .run(by: [
            "OverlayFileTests: an overlay is made, filled, gone on with, and committed by the commands that are printed"
        ]),
        "nbdecrypt serve ": .run(by: [
            "MigrationTests: the command at the end destroys the old image, and the new one is read as it says",
            "VolumeInfoTests: the volumes of a group are listed with size, contents, and why not or how they are served",
        ]
        ),
        "nbdecrypt migrate ": .run(by: [
            "InfoTests: the command that it prints moves the disk to LUKS, whatever the image is called",
            "PrintedCommandTests: the commands for a container that cryptsetup does not see make a new image of the same disk",
            "MigrationPlanTests: the command that a plan prints makes the image that it foretells, in the space that it says",
        ]),
        "shred -u ": .run(by: [
            "MigrationTests: the command at the end destroys the old image, and the new one is read as it says"
        ]),
        "nbdcopy -p ": .run(by: ["InstructionTests: qemu-img and nbdcopy copy the disk as printed"]),
        "nbd-client, the disk lacks its last ": .word("says what a command leaves out"),
        "sudo": .run(by: ["InstructionTests: nbd-client negotiates as printed, up to the device, which is not there"]),
        "nbd-client": .run(by: [
            "InstructionTests: nbd-client negotiates as printed, up to the device, which is not there"
        ]),
        "cryptsetup open uses segment ": .word("says what cryptsetup does otherwise"),
        "cryptsetup open ignores the iv_tweak ": .word("says what cryptsetup does otherwise"),
        "cryptsetup open takes the whole device for the segment, nbdecrypt its ": .word(
            "says what cryptsetup does otherwise"),
        "cryptsetup repair ": .run(by: [
            "LUKSInfoTests: every command that is printed runs on the container it is printed for, and the disk stays the same"
        ]),
        "cryptsetup reencrypt --resume-only ": .run(by: [
            "LUKSReencryptionTests: the disk is served byte for byte under the old key, and the command that is printed goes on"
        ]),
        "cryptsetup luksChangeKey --iter-time 5000 ": .run(by: [
            "LUKSInfoTests: a container of QEMU, which cryptsetup cannot convert, gets the command that makes its keyslot stronger"
        ]),
        "cryptsetup convert makes of it": .word("says what a command makes"),
        "cryptsetup convert --type luks2 ": .run(by: [
            "LUKSInfoTests: the verdict names what is weak, and its commands mend it"
        ]),
        "cryptsetup luksConvertKey --pbkdf argon2id ": .run(by: [
            "LUKSInfoTests: every command that is printed runs on the container it is printed for, and the disk stays the same"
        ]),
        "cryptsetup reencrypt ": .run(by: [
            "LUKSInfoTests: every command that is printed runs on the container it is printed for, and the disk stays the same"
        ]),
        "ssh tunnel, ": .word("says what protects a connection"),
        "qemu-img convert -p ": .run(by: ["InstructionTests: qemu-img and nbdcopy copy the disk as printed"]),
        "qemu-system-x86_64 -m 2G ": .run(by: ["InstructionTests: QEMU opens the drive as printed"]),
        "qemu-img convert ": .run(by: [
            "NamedFilesTests: what only QEMU can read is copied and named by the commands that the refusal prints"
        ]),
        "qemu-img rebase -u ": .run(by: [
            "NamedFilesTests: a file that is described with its secret gets a plain name by the command that the refusal prints",
            "OverlayFileTests: what is no overlay of the image is refused by name, and the name is changed by the printed command",
        ]),
        "qemu-img amend -o data_file=": .run(by: [
            "NamedFilesTests: a data file that is not there is named anew by the command that the message prints"
        ]),
        "qemu-img convert -O qcow2 ": .run(by: [
            "NamedFilesTests: an image of qcow version 1, which cannot be renamed in, is copied by the command that the refusal prints"
        ]),
        "cryptsetup open --token-id ": .word("needs the TPM, the FIDO2 token or the smart card of the container"),
        "base64.": .word("the name of a form"),
        "base64 it is encrypted, and allowed.": .word("the name of a form"),
        "base64, or stands where it may not": .word("the name of a form"),
        "base64 has a multiple of 4, with = at its end": .word("the name of a form"),
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
        for case .run(let tests) in Self.uses.values {
            for test in tests {
                let parts = test.components(separatedBy: ": ")
                let (file, sentence) = (try #require(parts.first), parts.dropFirst().joined(separator: ": "))
                let path = try #require(sources.first { $0.hasSuffix("/\(file).swift") }, "\(file)")
                #expect(try File.text(path).contains("func `\(sentence)`("), "\(test)")
            }
        }
    }

    /// Programs that a person may be told to start.
    private static let programs = [
        "cryptsetup(?:-reencrypt)?", "qemu-(?:img|nbd|io|system-\\w+)", "rbd", "nbd-client", "nbd(?:copy|info|fuse)",
        "basenc", "base64", "xxd", "od", "printf", "tr", "cat", "cp", "dd", "truncate", "tail", "lsblk", "findmnt",
        "s?fdisk", "parted", "wipefs", "losetup", "mount", "umount",
        "(?:vg|lv|pv)(?:change|create|display|remove|s|scan)", "mdadm",
        "systemctl", "systemd-\\w+ ", "ssh", "openssl", "certtool", "psktool", "chmod", "chown", "ulimit", "prlimit",
        "sysctl", "modprobe", "kill", "lsof", "fuser", "setfacl", "sudo", "nbdecrypt (?:serve|info|audit|migrate)",
        "shred",
    ]

    /// Mentions of programs in strings of the sources, to the end of the text, or of the part before a value.
    private static func mentions() throws -> [String] {
        let program = try NSRegularExpression(
            pattern: "(?<![\\w./-])(?:\(programs.joined(separator: "|")))(?![\\w])[^\"\\\\;:)`]*")
        return try swiftFiles("Sources").filter { !$0.contains("/TestSupport/") }.flatMap { path in
            try File.text(path).components(separatedBy: "\n").flatMap { line -> [String] in
                guard !line.drop(while: { $0 == " " }).hasPrefix("//"), let begin = line.firstIndex(of: "\""),
                    let end = line.lastIndex(of: "\""), begin < end
                else { return [] }
                let text = String(line[line.index(after: begin)..<end])
                let whole = NSRange(location: 0, length: text.utf16.count)
                return program.matches(in: text, range: whole).map { (text as NSString).substring(with: $0.range) }
            }
        }
    }

    private static func swiftFiles(_ directory: String) throws -> [String] {
        let root = "\(Program.root)/\(directory)"
        let names = try #require(FileManager.default.enumerator(atPath: root))
        return names.compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") }.map { "\(root)/\($0)" }
    }
}
