import HoldfastFaults
import NIOCore
import NIOPosix
import Testing

/// Each fault on real sockets.
@Suite("Fault proxy: faults", .timeLimit(.minutes(1)))
struct FaultProxyFaultsTests {
    // MARK: Slow lines

    @Test func latencyEachWay() async throws {
        try await withFaults {
            $0.latencyMs = 150
        } _: { it in
            let began = ContinuousClock.now
            try await it.client.send("there")
            try await eventually("there") { it.accepted.heard.text == "there" }
            #expect(ContinuousClock.now - began >= .milliseconds(150))
            try await it.accepted.send("and back")
            try await eventually("and back") { it.client.heard.text == "and back" }
            #expect(ContinuousClock.now - began >= .milliseconds(300))
        }
    }

    @Test func latencyOneWayOnly() async throws {
        try await withFaults {
            $0.latencyMs = 60_000
            $0.directions = .toClient
        } _: { it in
            try await it.client.send("at once")
            try await eventually("at once") { it.accepted.heard.text == "at once" }
            try await it.accepted.send("held")
            try await eventually("held") { await it.proxy.statistics.bytesHeld == 4 }
            try await it.proxy.apply(Faults())
            try await eventually("let go with the fault") { it.client.heard.text == "held" }
        }
    }

    @Test func whatIsUnderWayIsLostWithTheCable() async throws {
        try await withFaults {
            $0.latencyMs = 60_000
        } _: { it in
            try await it.client.send("under way")
            try await eventually("under way") { await it.proxy.statistics.bytesHeld == 9 }
            await it.proxy.cut()
            try await it.proxy.apply(faults { $0.cut = .both })
            try await eventually("lost") { await it.proxy.statistics.bytesSwallowedToServer == 9 }
            #expect(it.accepted.heard == .nothing)
        }
    }

    @Test func theEndTakesTheLatencyBehindTheData() async throws {
        try await withFaults {
            $0.latencyMs = 100
        } _: { it in
            let began = ContinuousClock.now
            try await it.client.send("last words")
            try await it.client.finish()
            try await eventually("both") { it.accepted.heard.end == .finish }
            #expect(it.accepted.heard.text == "last words")
            #expect(ContinuousClock.now - began >= .milliseconds(100))
            try await it.accepted.reset()
            try await eventually("RST") { it.client.heard.end == .reset }
            #expect(ContinuousClock.now - began >= .milliseconds(200))
        }
    }

    /// The sender is slowed down, and the proxy keeps no more than its limit and what one read brings.
    @Test(arguments: [true, false]) func aSlowLineIsBackpressureNotMemory(isBandwidth: Bool) async throws {
        try await withFaults {
            if isBandwidth { $0.bandwidthBytes = 1_000 } else { $0.latencyMs = 60_000 }
        } _: { it in
            let size = 32 << 20
            let channel = it.client.channel
            async let sent: Void = channel.writeAndFlush(ByteBuffer(repeating: 1, count: size))
            try await eventually("it begins") { try await channel.getOption(.bufferedWritableBytes).get() > 0 }
            let unsent = try await settled { try await channel.getOption(.bufferedWritableBytes).get() }
            #expect(unsent > size / 2, "the rest has not left the sender")
            let held = await it.proxy.statistics.bytesHeld
            let limit = isBandwidth ? 4_096 : FaultProxy.Configuration.toTestServer.heldBytesLimit
            #expect(held > 0 && held <= limit + 65_536, "\(held) bytes wait in the proxy")
            try await it.proxy.apply(Faults())
            try await sent
            try await eventually("nothing is lost") { it.accepted.heard.bytes.readableBytes == size }
        }
    }

    @Test func bandwidth() async throws {
        try await withFaults {
            $0.bandwidthBytes = 10_000
        } _: { it in
            let began = ContinuousClock.now
            try await it.accepted.send(String(repeating: "x", count: 10_000))
            try await eventually("all") { it.client.heard.bytes.readableBytes == 10_000 }
            #expect(ContinuousClock.now - began >= .milliseconds(950))
        }
    }

    @Test func drip() async throws {
        try await withFaults {
            $0.dripBytes = 2
            $0.dripMs = 20
        } _: { it in
            let began = ContinuousClock.now
            try await it.accepted.send("0123456789")
            try await eventually("some") { it.client.heard.bytes.readableBytes >= 4 }
            try await eventually("all, in order") { it.client.heard.text == "0123456789" }
            #expect(ContinuousClock.now - began >= .milliseconds(80))
        }
    }

    // MARK: Ends

    @Test func aFINIsDroppedAndTheDataBeforeItNot() async throws {
        try await withFaults {
            $0.dropFin = .toClient
        } _: { it in
            try await it.accepted.send("goodbye")
            try await it.accepted.finish()
            try await eventually("dropped") { await it.proxy.statistics.endsSwallowed == 1 }
            try await eventually("the words came") { it.client.heard == Heard(bytes: ByteBuffer(string: "goodbye")) }
            try await it.client.send("still there?")
            try await eventually("the other way works") { it.accepted.heard.text == "still there?" }
            try await it.client.finish()
            try await eventually("a FIN the other way passes") { it.accepted.heard.end == .finish }
            #expect(it.client.heard.end == nil)
        }
    }

    @Test func aRSTPassesWhereFINsAreDropped() async throws {
        try await withFaults {
            $0.dropFin = .both
        } _: { it in
            try await it.accepted.reset()
            try await eventually("told") { it.client.heard.end == .reset }
        }
    }

    @Test func aFINIsDelayed() async throws {
        try await withFaults {
            $0.finDelayMs = 1_000
        } _: { it in
            let began = ContinuousClock.now
            try await it.accepted.send("goodbye")
            try await it.accepted.finish()
            try await eventually("the words are not delayed") { it.client.heard.text == "goodbye" }
            try await eventually("the FIN") { it.client.heard.end == .finish }
            #expect(ContinuousClock.now - began >= .seconds(1))
        }
    }

    @Test func resetAllAndNewest() async throws {
        try await withConnection { it in
            let second = try await TestSocket.connect(to: it.proxy.port)
            try await eventually("two") { it.server.accepted.count == 2 }
            // Accepted by the server is not yet known to the proxy; what has passed is.
            try await second.send("here")
            try await eventually("through") { it.server.accepted[1].heard.bytes.readableBytes == 4 }
            #expect(await it.proxy.reset(.newest) == 1)
            try await eventually("both its ends") {
                second.heard.end == .reset && it.server.accepted[1].heard.end == .reset
            }
            #expect(it.client.heard == .nothing && it.accepted.heard == .nothing)
            #expect(await it.proxy.reset() == 1)
            try await eventually("the other one") { it.client.heard.end == .reset && it.accepted.heard.end == .reset }
        }
    }

    @Test func halfCloseEachWay() async throws {
        try await withConnection { it in
            #expect(await it.proxy.halfClose(.toClient) == 1)
            try await eventually("a FIN") { it.client.heard.end == .finish }
            try await it.accepted.send("too late")
            try await eventually("lost") { await it.proxy.statistics.bytesSwallowedToClient == 8 }
            try await it.client.send("goes on")
            try await eventually("the other half") { it.accepted.heard == Heard(bytes: ByteBuffer(string: "goes on")) }
            #expect(await it.proxy.halfClose(.toServer, .newest) == 1)
            try await eventually("and the other") { it.accepted.heard.end == .finish }
        }
    }

    @Test func closeAll() async throws {
        try await withConnection { it in
            #expect(await it.proxy.closeAll() == 1)
            try await eventually("a FIN each") { it.client.heard.end == .finish && it.accepted.heard.end == .finish }
            #expect(await it.proxy.statistics.connectionsOpen == 0)
        }
    }

    @Test func anIdleConnectionIsClosedAndABusyOneNot() async throws {
        try await withConnection { it in
            let busy = try await TestSocket.connect(to: it.proxy.port)
            let talk = Task {
                while !Task.isCancelled {
                    try await busy.send(".")
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            // Much longer than the talk ever pauses, also on a machine that does other things.
            try await it.proxy.apply(faults { $0.closeIdleMs = 2000 })
            try await eventually("closed") { it.client.heard.end == .finish && it.accepted.heard.end == .finish }
            #expect(busy.heard == .nothing)
            talk.cancel()
            _ = await talk.result
            // With a reset, if its last words stood unread.
            try await eventually("when it is quiet too") { busy.heard.end != nil }
        }
    }

    @Test func aConnectionIsClosedAtItsAge() async throws {
        try await withFaults {
            $0.closeAfterMs = 200
        } _: { it in
            let began = ContinuousClock.now
            let new = try await TestSocket.connect(to: it.proxy.port)
            try await eventually("the old one") { it.client.heard.end == .finish }
            try await eventually("the new one") { new.heard.end == .finish }
            #expect(ContinuousClock.now - began >= .milliseconds(195))
        }
    }

    // MARK: The port, and whom faults strike

    @Test func aByteIsCorrupted() async throws {
        try await withFaults {
            $0.corrupt = .toServer
            $0.corruptByte = 7
        } _: { it in
            for part in ["abc", "def", "ghi"] { try await it.client.send(part) }
            try await eventually("the seventh") { it.accepted.heard.text == "abcdeffhi" }
            try await it.accepted.send("abcdefghi")
            try await eventually("not the other way") { it.client.heard.text == "abcdefghi" }
            #expect(await it.proxy.statistics.bytesCorrupted == 1)
        }
    }

    @Test func thePortRefusesAndIsOpenAgain() async throws {
        try await withConnection { it in
            for _ in 0..<3 {
                try await it.proxy.apply(faults { $0.refuse = true })
                await #expect(throws: NIOConnectionError.self) {
                    do {
                        _ = try await TestSocket.connect(to: it.proxy.port)
                    } catch let error as NIOConnectionError {
                        #expect((error.connectionErrors.first?.error as? IOError)?.errnoCode == ECONNREFUSED)
                        throw error
                    }
                }
                try await it.client.send("x")
                try await it.proxy.apply(Faults())
                let again = try await TestSocket.connect(to: it.proxy.port)
                await again.close()
            }
            try await eventually("what was open goes on") { it.accepted.heard.text == "xxx" }
        }
    }

    @Test func aPortThatRefusesIsKept() async throws {
        try await withConnection { it in
            try await it.proxy.apply(faults { $0.refuse = true })
            await #expect(throws: IOError.self) { try await TestServer.start(port: it.proxy.port).close() }
            try await it.proxy.apply(Faults())
        }
    }

    @Test func reach() async throws {
        try await withConnection { it in
            try await it.proxy.apply(
                faults {
                    $0.latencyMs = 60_000
                    $0.reach = .newConnections
                })
            try await it.client.send("old")
            try await eventually("the old one is struck by nothing") { it.accepted.heard.text == "old" }
            let new = try await TestSocket.connect(to: it.proxy.port)
            try await new.send("new")
            try await eventually("the new one is") { await it.proxy.statistics.bytesHeld == 3 }
            try await it.proxy.apply(
                faults {
                    $0.latencyMs = 60_000
                    $0.reach = .existingConnections
                })
            let third = try await TestSocket.connect(to: it.proxy.port)
            try await third.send("third")
            try await eventually("existing only") { it.server.accepted.last?.heard.text == "third" }
            // A change of something else does not strike the third one: it was not there when the faults came.
            try await it.proxy.change { $0.cut = .toClient }
            try await third.send("!")
            try await eventually("existing then") { it.server.accepted.last?.heard.text == "third!" }
            await new.close()
            await third.close()
        }
    }

    @Test func wrongFaultsChangeNothing() async throws {
        try await withFaults {
            $0.latencyMs = 5
        } _: { it in
            await #expect(throws: FaultsError.self) { try await it.proxy.apply(faults { $0.latencyMs = 60_001 }) }
            await #expect(throws: FaultsError.self) { try await it.proxy.change { $0.jitterMs = 6 } }
            #expect(await it.proxy.faults == faults { $0.latencyMs = 5 })
        }
    }

    /// Real bytes through real sockets under all faults that only take time, in random segments.
    @Test(arguments: [1, 2, 3] as [UInt64]) func notAByteChangesUnderFaultsThatTakeTime(seed: UInt64) async throws {
        try await withFaults {
            $0.latencyMs = 20
            $0.jitterMs = 20
            $0.bandwidthBytes = 400_000
            $0.bufferBytes = 1_000
            $0.finDelayMs = 30
        } _: { it in
            var chance = SeededBytes(seed: seed)
            var sent = ByteBuffer()
            for _ in 0..<100 {
                let bytes = (0..<Int.random(in: 1...1_500, using: &chance)).map { _ in
                    UInt8.random(in: 0...255, using: &chance)
                }
                sent.writeBytes(bytes)
                try await it.client.channel.writeAndFlush(ByteBuffer(bytes: bytes))
            }
            try await it.client.finish()
            let all = Heard(bytes: sent, end: .finish)
            try await eventually("the same bytes, then the FIN") { it.accepted.heard.end != nil }
            #expect(it.accepted.heard == all, "seed \(seed)")
        }
    }
}

/// xorshift64*: the same bytes for the same seed.
private struct SeededBytes: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { self.state = seed &* 0x9e37_79b9_7f4a_7c15 }

    mutating func next() -> UInt64 {
        self.state ^= self.state >> 12
        self.state ^= self.state << 25
        self.state ^= self.state >> 27
        return self.state &* 0x2545_f491_4f6c_dd1d
    }
}
