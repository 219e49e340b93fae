// SPDX-License-Identifier: Apache-2.0

import Dispatch
import TestSupport
import Testing

@testable import NBDServer

/// Who sends, and when the socket is closed, on every path that a loop, workers and a client can take together
/// (docs/decisions/0034-exhaustive-walk.md).
@Suite struct InterleavingTests {
    /// What is asked for.
    enum Conversation {
        /// Two reads, which workers answer.
        case pair
        /// These, and later what the loop answers itself.
        case pairAndRefusal
        /// A read in three pieces, and reads behind it, for which there is not always memory.
        case pieces

        var arrivals: [[WireRequest]] {
            let pair = [Scene.read(1, length: 64), Scene.read(2, offset: 5000, length: 64)]
            return switch self {
            case .pair: [pair]
            case .pairAndRefusal: [pair, [Scene.refused(3)]]
            case .pieces:
                [[Scene.read(1, length: 40_000), Scene.read(2, offset: 5000, length: 8192), Scene.read(3, length: 64)]]
            }
        }

        func scene(_ interruption: Scene.Interruption? = nil, shortSends: Int = 0) -> Scene {
            Scene(
                arrivals: arrivals, interruption: interruption, shortSends: shortSends,
                memory: self == .pieces ? 2 : 100)
        }
    }

    /// Calls `look` with each path, until it returns false.
    private static func walk(
        _ scene: Scene, _ walk: Walk = Walk(), _ look: (InterleavedConnection) throws -> Bool
    ) throws -> Walk {
        let turns = Turns(threads: scene.workers)
        let loop = try EventLoop(index: 0, processors: SpareProcessors(total: 0), isDriven: true)
        return try loop.queue.sync {
            repeat {
                let connection = try InterleavedConnection(scene, loop, walk, turns)
                connection.run()
                guard try look(connection) else { break }
            } while walk.next()
            return walk
        }
    }

    /// Walks all of it, or until something has gone wrong.
    private static func expectNoHarm(_ scene: Scene, paths: Int) throws {
        let walk = try walk(scene) { connection in
            #expect(connection.harm == nil, "\(connection.story)")
            return connection.harm == nil
        }
        // Fewer: somebody has shortened the walk, or threads cannot change any more where they could.
        #expect(walk.pathCount >= paths)
    }

    @Test(arguments: [(Conversation.pair, 2, 700), (.pairAndRefusal, 1, 2000), (.pieces, 1, 900)])
    func `each reply is whole and comes once, and the right to send is free in the end`(
        _ conversation: Conversation, shortSends: Int, paths: Int
    ) throws {
        try Self.expectNoHarm(conversation.scene(shortSends: shortSends), paths: paths)
    }

    @Test(arguments: [(Conversation.pair, 1, 2200), (.pairAndRefusal, 0, 3300), (.pieces, 0, 1000)])
    func `a server that is told to stop answers what it was asked, then closes the socket`(
        _ conversation: Conversation, shortSends: Int, paths: Int
    ) throws {
        try Self.expectNoHarm(conversation.scene(.stop, shortSends: shortSends), paths: paths)
    }

    @Test(arguments: [(Conversation.pair, 1, 2400), (.pairAndRefusal, 0, 3100), (.pieces, 0, 1200)])
    func `a connection that is closed at once closes its socket when no worker uses it`(
        _ conversation: Conversation, shortSends: Int, paths: Int
    ) throws {
        try Self.expectNoHarm(conversation.scene(.abort, shortSends: shortSends), paths: paths)
    }

    @Test(arguments: [(Conversation.pair, 1, 2300), (.pairAndRefusal, 0, 3000), (.pieces, 0, 900)])
    func `when the client goes, its socket is closed when no worker uses it`(
        _ conversation: Conversation, shortSends: Int, paths: Int
    ) throws {
        try Self.expectNoHarm(conversation.scene(.hangUp, shortSends: shortSends), paths: paths)
    }

    @Test func `states that are taken for the same lead to the same ends`() throws {
        var ends: [Set<[UInt8]>] = []
        var pathCounts: [Int] = []
        for prunes in [true, false] {
            var scene = Scene(arrivals: [[Scene.read(1, length: 64)], [Scene.refused(2)]], shortSends: 0, workers: 1)
            scene.interruption = .stop
            var outputs: Set<[UInt8]> = []
            let walk = try Self.walk(scene, Walk(prunes: prunes)) { connection in
                outputs.insert(connection.output)
                return connection.harm == nil
            }
            ends.append(outputs)
            pathCounts.append(walk.pathCount)
        }
        #expect(ends[0] == ends[1])
        #expect(ends[0].count > 2)
        #expect(pathCounts[0] < pathCounts[1])
    }

    // MARK: The walk finds what is broken

    /// Is this what comes of it, on some path? On others something else may.
    private static func finds(_ expected: Harm, _ mutation: Mutation, in scene: Scene) throws -> Bool {
        var scene = scene
        scene.mutation = mutation
        var isFound = false
        _ = try walk(scene) { connection in
            isFound = connection.harm == expected
            return !isFound
        }
        return isFound
    }

    @Test func `it finds a right that is given back between the pieces of a reply`() throws {
        #expect(try Self.finds(.rightGivenUp, .rightGivenBackBetweenPieces, in: Conversation.pieces.scene()))
    }

    @Test func `it finds a right that a worker gives back when the socket has taken a part of its reply`() throws {
        #expect(try Self.finds(.rightGivenUp, .right { HastyRight() }, in: Conversation.pair.scene(shortSends: 2)))
    }

    @Test func `it finds a worker that sends without the right`() throws {
        #expect(try Self.finds(.mixedReplies, .right { PushyRight() }, in: Conversation.pair.scene()))
    }

    @Test func `it finds a loop that sends without the right`() throws {
        #expect(try Self.finds(.mixedReplies, .right { PushyLoopRight() }, in: Conversation.pairAndRefusal.scene()))
    }

    @Test func `it finds a worker that does not hand its reply over when the right is taken`() throws {
        #expect(try Self.finds(.lostReply, .replyNotHandedOver, in: Conversation.pair.scene()))
    }

    @Test func `it finds a loop that goes to sleep over what a worker has told it`() throws {
        #expect(try Self.finds(.lostReply, .lostWakeUp, in: Conversation.pairAndRefusal.scene()))
    }

    @Test func `it finds a right that is not taken over from a worker whose socket was full`() throws {
        #expect(try Self.finds(.keptRight, .right { UnheardRight() }, in: Conversation.pair.scene(shortSends: 1)))
    }

    @Test func `it finds a right that a worker does not give back`() throws {
        #expect(try Self.finds(.keptRight, .right { StingyRight() }, in: Conversation.pair.scene()))
    }

    @Test func `it finds a right that the loop does not give back`() throws {
        #expect(try Self.finds(.keptRight, .right { StingyLoopRight() }, in: Conversation.pairAndRefusal.scene()))
    }

    @Test func `it finds a loop that does not hear of room in the socket`() throws {
        #expect(try Self.finds(.keptRight, .forgottenRoom, in: Conversation.pair.scene(shortSends: 1)))
    }

    @Test func `it finds a socket that is closed without asking whether a worker uses it`() throws {
        #expect(try Self.finds(.closedInUse, .right { RecklessRight() }, in: Conversation.pair.scene(.abort)))
        #expect(try Self.finds(.closedInUse, .right { RecklessRight() }, in: Conversation.pair.scene(.hangUp)))
    }

    @Test func `it finds a worker that does not end a connection which was closed while it was sending`() throws {
        #expect(try Self.finds(.noEnd, .right { DeafRight() }, in: Conversation.pair.scene(.abort)))
    }
}
