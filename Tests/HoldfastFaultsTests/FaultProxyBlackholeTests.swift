import NIOCore
import Testing

@testable import HoldfastFaults

/// That nothing arrives is known without waiting for it: the proxy counts a byte or an end as swallowed at the moment
/// at which it decides so, and nothing that is swallowed is kept.
@Suite("Fault proxy: the line that looks alive", .timeLimit(.minutes(1)))
struct FaultProxyBlackholeTests {
    @Test func nothingPassesInEitherDirection() async throws {
        try await withConnection { it in
            await it.proxy.cut()
            #expect(await it.proxy.statistics.cut == .both)
            try await it.client.send("hello?")
            try await it.accepted.send("anybody?!")
            try await eventually("both are swallowed") {
                let now = await it.proxy.statistics
                return now.bytesSwallowedToServer == 6 && now.bytesSwallowedToClient == 9
            }
            #expect(it.accepted.heard == .nothing)
            #expect(it.client.heard == .nothing)
        }
    }

    @Test func aConnectionThatLostBytesStaysSilentAfterTheRestore() async throws {
        try await withConnection { it in
            try await it.client.send("before")
            try await eventually("before the cut it works") { it.accepted.heard.text == "before" }
            await it.proxy.cut()
            try await it.client.send("lost")
            try await eventually("lost") { await it.proxy.statistics.bytesSwallowedToServer == 4 }
            await it.proxy.restore()
            #expect(await it.proxy.statistics.cut == [])

            try await it.client.send("after a hole")
            try await eventually("swallowed too") { await it.proxy.statistics.bytesSwallowedToServer == 16 }
            #expect(it.accepted.heard == Heard(bytes: ByteBuffer(string: "before")))

            // The other direction has lost nothing.
            try await it.accepted.send("goes on")
            try await eventually("the whole direction goes on") { it.client.heard.text == "goes on" }
        }
    }

    @Test func aConnectionThatWasQuietDuringTheCutGoesOn() async throws {
        try await withConnection { it in
            await it.proxy.cut()
            await it.proxy.restore()
            try await it.client.send("still here")
            try await eventually("it goes on") { it.accepted.heard.text == "still here" }
        }
    }

    @Test func onlyTheNamedDirectionIsCut() async throws {
        try await withConnection { it in
            await it.proxy.cut(.toClient)
            try await it.accepted.send("unheard")
            try await eventually("swallowed") { await it.proxy.statistics.bytesSwallowedToClient == 7 }
            try await it.client.send("heard")
            try await eventually("the other way works") { it.accepted.heard.text == "heard" }
            #expect(it.client.heard == .nothing)
        }
        try await withConnection { it in
            await it.proxy.cut(.toServer)
            try await it.client.send("unheard")
            try await eventually("swallowed") { await it.proxy.statistics.bytesSwallowedToServer == 7 }
            try await it.accepted.send("heard")
            try await eventually("the other way works") { it.client.heard.text == "heard" }
            #expect(it.accepted.heard == .nothing)
        }
    }

    @Test func aSecondCutReplacesTheFirst() async throws {
        try await withConnection { it in
            await it.proxy.cut(.toClient)
            await it.proxy.cut(.toServer)
            #expect(await it.proxy.statistics.cut == .toServer)
            try await it.accepted.send("whole again")
            try await eventually("to the client it is whole") { it.client.heard.text == "whole again" }
        }
    }

    enum Closing: CaseIterable {
        case finish
        case reset
        case close
    }

    /// The story of the answered call: the server lets go, and the client is never told.
    @Test(arguments: Closing.allCases) func theServersEndIsLostForGood(how: Closing) async throws {
        try await withConnection { it in
            await it.proxy.cut()
            try await it.accepted.end(how)
            try await eventually("the end is swallowed") { await it.proxy.statistics.endsSwallowed == 1 }
            await it.proxy.restore()
            try await it.client.send("are you there?")
            try await eventually("nobody answers") { await it.proxy.statistics.bytesToServerTried == 14 }
            #expect(it.client.heard == .nothing)
        }
    }

    @Test(arguments: Closing.allCases) func theClientsEndIsLostForGood(how: Closing) async throws {
        try await withConnection { it in
            await it.proxy.cut()
            try await it.client.end(how)
            try await eventually("the end is swallowed") { await it.proxy.statistics.endsSwallowed == 1 }
            await it.proxy.restore()
            #expect(it.accepted.heard == .nothing)
            #expect(await it.proxy.statistics.connectionsOpen == 1)
        }
    }

    @Test func whenBothHaveGoneTheSocketsAreLetGoAfterAWhile() async throws {
        var settings = FaultProxy.Configuration.toTestServer
        settings.ghostTime = .milliseconds(50)
        try await withConnection(settings) { it in
            await it.proxy.cut()
            try await it.client.end(.close)
            try await it.accepted.end(.close)
            try await eventually("both ends swallowed") { await it.proxy.statistics.endsSwallowed == 2 }
            try await eventually("let go") { await it.proxy.statistics.connectionsOpen == 0 }
        }
    }

    @Test func twoResetsLeaveNothingToHold() async throws {
        try await withConnection { it in
            await it.proxy.cut()
            try await it.client.end(.reset)
            try await it.accepted.end(.reset)
            try await eventually("let go at once") { await it.proxy.statistics.connectionsOpen == 0 }
        }
    }

    @Test(arguments: [Directions.toServer, .toClient, .both])
    func aConnectionBegunDuringTheCutIsMadeWhenItsSYNIsSentAgain(directions: Directions) async throws {
        var settings = FaultProxy.Configuration.toTestServer
        settings.synRepeats = (0..<100).map { .milliseconds(1 + $0 * 100) }
        try await withConnection(settings) { it in
            await it.proxy.cut(directions)
            let late = try await TestSocket.connect(to: it.proxy.port)
            try await late.send("GET")
            try await eventually("accepted") { await it.proxy.statistics.connectionsOpen == 2 }
            #expect(it.server.accepted.count == 1)
            await it.proxy.restore()
            try await eventually("made") { it.server.accepted.count == 2 }
            try await eventually("nothing of it is lost") { it.server.accepted[1].heard.text == "GET" }
            try await it.server.accepted[1].send("200")
            try await eventually("both ways") { late.heard.text == "200" }
            #expect(await it.proxy.statistics.bytesSwallowedToServer == 0)
            await late.close()
        }
    }

    @Test func aSecondCutFindsAConnectionStillWithoutItsSYN() async throws {
        var settings = FaultProxy.Configuration.toTestServer
        settings.synRepeats = (1..<200).map { .milliseconds($0 * 50) }
        try await withConnection(settings) { it in
            await it.proxy.cut()
            let late = try await TestSocket.connect(to: it.proxy.port)
            try await late.send("GET")
            try await eventually("accepted") { await it.proxy.statistics.connectionsOpen == 2 }
            // Whole and cut again within one turn of the loop: no SYN can have passed.
            let core = it.proxy.core
            try await core.eventLoop.submit {
                core.value.cut(.none, reach: .everything)
                core.value.cut(Cut(directions: .both, packets: .lost), reach: .everything)
            }.get()
            let cutAgain = ContinuousClock.now
            try await eventually("its next SYN is sent, and lost") {
                ContinuousClock.now - cutAgain > .milliseconds(150)
            }
            #expect(it.server.accepted.count == 1)
            await it.proxy.restore()
            try await eventually("made at last") { it.server.accepted.last?.heard.text == "GET" }
            await late.close()
        }
    }

    @Test(arguments: Closing.allCases) func aClientThatGivesUpDuringTheCutWasNeverThere(how: Closing) async throws {
        try await withConnection { it in
            await it.proxy.cut()
            let late = try await TestSocket.connect(to: it.proxy.port)
            try await late.send("GET")
            try await eventually("accepted") { await it.proxy.statistics.connectionsOpen == 2 }
            try await late.end(how)
            try await eventually("forgotten") { await it.proxy.statistics.connectionsOpen == 1 }
            await it.proxy.restore()
            #expect(it.server.accepted.count == 1)
            #expect(await it.proxy.statistics.endsSwallowed == 0)
            await late.close()
        }
    }

    @Test func aCutOfExistingConnectionsLetsNewOnesPass() async throws {
        try await withConnection { it in
            await it.proxy.cut(reach: .existingConnections)
            #expect(await it.proxy.statistics.cut == .both)
            let new = try await TestSocket.connect(to: it.proxy.port)
            try await new.send("through")
            try await eventually("the new one is carried") { it.server.accepted.last?.heard.text == "through" }
            try await it.accepted.send("lost")
            try await eventually("the old one is not") { await it.proxy.statistics.bytesSwallowedToClient == 4 }
            #expect(it.client.heard == .nothing)
            await new.close()
        }
    }

    @Test func aHundredConnectionsAreCutAtOneInstant() async throws {
        try await withConnection { it in
            var clients: [TestSocket] = []
            for _ in 0..<100 {
                clients.append(try await TestSocket.connect(to: it.proxy.port))
            }
            try await eventually("all connected") { it.server.accepted.count == 101 }
            await it.proxy.cut()
            for socket in it.server.accepted {
                try await socket.send("x")
            }
            try await eventually("all swallowed") { await it.proxy.statistics.bytesSwallowedToClient == 101 }
            #expect(clients.allSatisfy { $0.heard == .nothing })
            for client in clients {
                await client.close()
            }
        }
    }

    @Test func shutdownDuringACutClosesEverything() async throws {
        try await withConnection { it in
            await it.proxy.cut()
            let late = try await TestSocket.connect(to: it.proxy.port)
            try await eventually("accepted") { await it.proxy.statistics.connectionsOpen == 2 }
            await it.proxy.shutdown()
            #expect(await it.proxy.statistics.connectionsOpen == 0)
            try await eventually("all are told") {
                it.client.heard.end != nil && it.accepted.heard.end != nil && late.heard.end != nil
            }
        }
    }
}

@Suite("Fault proxy: the short cut, after which TCP sends again", .timeLimit(.minutes(1)))
struct FaultProxyDelayTests {
    @Test func whatWasSentDuringTheCutComesInOrderAfterIt() async throws {
        try await withConnection { it in
            await it.proxy.cut(packets: .delayed)
            try await it.client.send("one ")
            try await it.client.send("two ")
            try await it.accepted.send("three ")
            #expect(it.accepted.heard == .nothing)
            await it.proxy.restore()
            try await it.client.send("four")
            try await eventually("all to the server") { it.accepted.heard.text == "one two four" }
            try await eventually("all to the client") { it.client.heard.text == "three " }
            #expect(await it.proxy.statistics.bytesSwallowedToServer == 0)
        }
    }

    @Test func anEndComesAfterTheDataBeforeIt() async throws {
        try await withConnection { it in
            await it.proxy.cut(packets: .delayed)
            try await it.client.send("last words")
            try await it.client.finish()
            #expect(it.accepted.heard == .nothing)
            await it.proxy.restore()
            try await eventually("the words, then the end") {
                it.accepted.heard == Heard(bytes: ByteBuffer(string: "last words"), end: .finish)
            }
        }
    }

    @Test func theSenderIsSlowedDownNotTheProxyFilled() async throws {
        try await withConnection { it in
            await it.proxy.cut(.toServer, packets: .delayed)
            let size = 32 << 20
            let channel = it.client.channel
            async let sent: Void = channel.writeAndFlush(ByteBuffer(repeating: 1, count: size))
            try await eventually("it begins") { try await channel.getOption(.bufferedWritableBytes).get() > 0 }
            let unsent = try await settled { try await channel.getOption(.bufferedWritableBytes).get() }
            // The kernel's buffers take a few megabytes; the rest has not left the sender.
            #expect(unsent > size / 2)
            #expect(it.accepted.heard == .nothing)
            await it.proxy.restore()
            try await sent
            try await eventually("nothing is lost") { it.accepted.heard.bytes.readableBytes == size }
        }
    }
}

extension TestSocket {
    func end(_ how: FaultProxyBlackholeTests.Closing) async throws {
        switch how {
        case .finish: try await self.finish()
        case .reset: try await self.reset()
        case .close: await self.close()
        }
    }
}

extension FaultProxy.Statistics {
    /// Passed or swallowed: a server that closed its socket by a FIN only is still there to be written to.
    var bytesToServerTried: Int { self.bytesToServer + self.bytesSwallowedToServer }
}
