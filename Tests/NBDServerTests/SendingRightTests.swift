// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import NBDServer

@Suite struct SendingRightTests {
    @Test func `one side has the right at a time, and the loop keeps it until all has left`() {
        let right = SendingRight()
        #expect(right.takeForLoop())
        #expect(right.takeForLoop())
        #expect(!right.takeForWorker())
        right.giveBackFromLoop()
        #expect(right.takeForWorker())
        #expect(!right.takeForWorker())
        #expect(!right.takeForLoop())
        // Giving back what one does not have changes nothing.
        right.giveBackFromLoop()
        #expect(!right.takeForLoop())
        #expect(right.giveBackFromWorker())
        #expect(right.takeForLoop())
    }

    @Test func `nothing comes between a part that a worker has sent and the rest`() {
        let right = SendingRight()
        #expect(right.takeForWorker())
        #expect(right.handToLoop())
        // The loop has not heard of it yet, and may not send anything else.
        #expect(!right.takeForLoop())
        #expect(!right.takeForWorker())
        right.takeHanded()
        #expect(right.takeForLoop())
        #expect(!right.takeForWorker())
    }

    @Test func `a worker that sends when the connection is closed is the one to end it`() {
        let sending = SendingRight()
        #expect(sending.takeForWorker())
        #expect(!sending.close())
        #expect(!sending.giveBackFromWorker())
        let stuck = SendingRight()
        #expect(stuck.takeForWorker())
        #expect(!stuck.close())
        #expect(!stuck.handToLoop())
        let finished = SendingRight()
        #expect(finished.takeForWorker())
        #expect(finished.handToLoop())
        #expect(finished.close())
        let idle = SendingRight()
        #expect(idle.close())
        #expect(!idle.takeForWorker())
        #expect(!idle.takeForLoop())
    }
}
