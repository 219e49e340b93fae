// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import Testing

@testable import BlockIO

@Suite struct ImageLockTests {
    typealias Outcome = ImageLock.Outcome

    private static let errors: [(Errno, Outcome)] = [
        (.wouldBlock, .inUse), (.permissionDenied, .inUse), (.noFunction, .noLocks(.noFunction)),
        (.noLocks, .noLocks(.noLocks)), (.notSupported, .noLocks(.notSupported)),
        (.invalidArgument, .noLocks(.invalidArgument)), (.ioError, .failed(.ioError)),
        (.badFileDescriptor, .failed(.badFileDescriptor)), (.notPermitted, .failed(.notPermitted)),
    ]

    @Test(arguments: errors)
    func `a lock that cannot be taken is held, or cannot be had, or is an error`(errno: Errno, outcome: Outcome) {
        for byte in [100, 201, 203] {
            let lock = ImageLock(take: { $0 == byte ? errno : nil }, isHeld: { _ in .success(false) })
            #expect(lock.admitReader() == outcome)
            #expect(lock.admitWriter() == outcome)
        }
    }

    @Test(arguments: errors)
    func `so is one that cannot be looked at`(errno: Errno, outcome: Outcome) {
        for byte in [101, 103, 200] {
            let lock = ImageLock(take: { _ in nil }, isHeld: { $0 == byte ? .failure(errno) : .success(false) })
            #expect(lock.admitReader() == outcome)
            #expect(lock.admitWriter() == outcome)
        }
    }

    @Test func `readers get on with readers, writers with nobody who minds`() {
        func lock(held: Set<Int>) -> ImageLock {
            ImageLock(take: { _ in nil }, isHeld: { .success(held.contains($0)) })
        }
        #expect(lock(held: []).admitReader() == .admitted)
        #expect(lock(held: []).admitWriter() == .admitted)
        // As a reader of QEMU's or ours: 100, 201, 203.
        #expect(lock(held: [100, 201, 203]).admitReader() == .admitted)
        #expect(lock(held: [100, 201, 203]).admitWriter() == .inUse)
        #expect(lock(held: [100, 101, 103, 201, 203]).admitReader() == .inUse)
    }

    @Test func `a block device that is in use says what to look at`() {
        let busy = FileDevice.cannotOpenExclusively(.resourceBusy)
        #expect(busy.code == .inUse)
        #expect(busy.description.hasPrefix("the block device is in use") && busy.description.contains("lsblk"))
        #expect(FileDevice.cannotOpenExclusively(.noSuchAddressOrDevice).code == .unreadable)
    }

    @Test func `the table of locks is searched for the file, and for those who have the lock`() {
        let table = """
            1: FLOCK  ADVISORY  WRITE 100 08:01:77 0 EOF
            2: POSIX  ADVISORY  WRITE 101 08:01:77 0 EOF
            2: -> POSIX  ADVISORY  WRITE 102 08:01:77 0 EOF
            3: POSIX  ADVISORY  READ 103 fe:10:77 100 100
            4: OFDLCK ADVISORY  READ -1 08:01:77 100 100
            5: POSIX  ADVISORY  WRITE 104 08:01:777 0 EOF
            nonsense

            """
        #expect(LockHolder.processes(in: table, file: "08:01:77") == [101])
        #expect(LockHolder.processes(in: table, file: "fe:10:77") == [103])
        #expect(LockHolder.processes(in: "", file: "08:01:77") == [])
        #expect(LockHolder.name(device: 0x801, inode: 77) == "08:01:77")
        #expect(LockHolder.name(device: 0xFE10, inode: 77) == "fe:10:77")
        #expect(LockHolder.name(device: 0x10_00A5, inode: 1) == "00:1a5:1")
    }
}
