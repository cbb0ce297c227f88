import HoldfastFaults
import NIOCore
import NIOPosix
import Testing

@Suite("Fault proxy: a plain relay while the line is whole", .timeLimit(.minutes(1)))
struct FaultProxyRelayTests {
    @Test func carriesBytesBothWaysAndCountsThem() async throws {
        try await withConnection { it in
            try await it.client.send("question")
            try await eventually("the question arrives") { it.accepted.heard.text == "question" }
            try await it.accepted.send("the answer")
            try await eventually("the answer arrives") { it.client.heard.text == "the answer" }

            let statistics = await it.proxy.statistics
            #expect(statistics.bytesToServer == 8)
            #expect(statistics.bytesToClient == 10)
            #expect(statistics.connectionsOpen == 1)
            #expect(statistics.connectionsTotal == 1)
            #expect(statistics.bytesSwallowedToServer == 0)
            #expect(statistics.bytesSwallowedToClient == 0)
        }
    }

    @Test func passesOnAFinishAndTheOtherHalfGoesOn() async throws {
        try await withConnection { it in
            try await it.client.send("last")
            try await it.client.finish()
            try await eventually("the FIN arrives") { it.accepted.heard.end == .finish }
            #expect(it.accepted.heard.text == "last")

            try await it.accepted.send("still talking")
            try await eventually("the half that is open works") { it.client.heard.text == "still talking" }
            try await it.accepted.finish()
            try await eventually("the second FIN arrives") { it.client.heard.end == .finish }
            try await eventually("the proxy has let go") { await it.proxy.statistics.connectionsOpen == 0 }
        }
    }

    /// The client has closed its half and does not read; the server's FIN comes while its last bytes still wait in the
    /// proxy.
    @Test func aFinishDoesNotOvertakeWhatCameBeforeIt() async throws {
        let server = try await TestServer.start()
        let proxy = try await FaultProxy.start(.init(serverHost: "127.0.0.1", serverPort: server.port))
        let client = try await TestSocket.connect(to: proxy.port, autoRead: false)
        try await eventually("connected") { server.accepted.count == 1 }
        let accepted = server.accepted[0]
        try await client.finish()
        try await eventually("the server hears the FIN") { accepted.heard.end == .finish }

        let chunk = ByteBuffer(repeating: 7, count: 32 << 10)
        var sent = 0
        // As long as the proxy reads, what it has read goes on to the kernel; when it reads no more, its buffer is
        // full.
        repeat {
            accepted.channel.writeAndFlush(chunk, promise: nil)
            sent += chunk.readableBytes
        } while try await settled(at: sent, { await proxy.statistics.bytesToClient }) == sent
        let all = sent
        await accepted.close()
        try await eventually("the proxy has the rest, and the FIN") { await proxy.statistics.bytesToClient == all }

        try await client.channel.setOption(.autoRead, value: true).get()
        try await eventually("and then the end") { client.heard.end == .finish }
        #expect(client.heard.bytes.readableBytes == all)
        await proxy.shutdown()
        await server.close()
    }

    /// The FIN is there before the connection to the server is.
    @Test func carriesAClientThatSendsAndLeavesAtOnce() async throws {
        let server = try await TestServer.start()
        let proxy = try await FaultProxy.start(.init(serverHost: "127.0.0.1", serverPort: server.port))
        for _ in 0..<50 {
            let client = try await TestSocket.connect(to: proxy.port)
            try await client.send("bye")
            try await client.finish()
        }
        try await eventually("all are carried") {
            server.accepted.count == 50
                && server.accepted.allSatisfy { $0.heard == Heard(bytes: ByteBuffer(string: "bye"), end: .finish) }
        }
        await proxy.shutdown()
        await server.close()
    }

    @Test func passesOnAResetFromTheClient() async throws {
        try await withConnection { it in
            try await it.client.reset()
            try await eventually("the RST arrives") { it.accepted.heard.end == .reset }
            try await eventually("the proxy has let go") { await it.proxy.statistics.connectionsOpen == 0 }
        }
    }

    @Test func passesOnAResetFromTheServer() async throws {
        try await withConnection { it in
            try await it.accepted.reset()
            try await eventually("the RST arrives") { it.client.heard.end == .reset }
            try await eventually("the proxy has let go") { await it.proxy.statistics.connectionsOpen == 0 }
        }
    }

    @Test func aServerThatRefusesIsAResetToTheClient() async throws {
        let server = try await TestServer.start()
        let proxy = try await FaultProxy.start(.init(serverHost: "127.0.0.1", serverPort: server.port))
        await server.close()
        try await expectReset(connectingTo: proxy.port)
        await proxy.shutdown()
    }

    /// What is sent to a reader that does not read stays with the sender, not in the proxy.
    @Test func aReaderThatDoesNotReadStopsTheWriter() async throws {
        let server = try await TestServer.start(autoRead: false)
        let proxy = try await FaultProxy.start(.init(serverHost: "127.0.0.1", serverPort: server.port))
        let client = try await TestSocket.connect(to: proxy.port)
        let size = 64 << 20
        async let sent: Void = client.channel.writeAndFlush(ByteBuffer(repeating: 1, count: size))
        try await eventually("connected") { server.accepted.count == 1 }

        try await eventually("it begins") { await proxy.statistics.bytesToServer > 0 }
        let passed = try await settled { await proxy.statistics.bytesToServer }
        // Two receive buffers and two send buffers of the kernel (4 MiB each at most by default) and our own 128 KiB.
        #expect(passed < 20 << 20)

        try await server.accepted[0].channel.setOption(.autoRead, value: true).get()
        try await sent
        try await eventually("it flows again") { server.accepted[0].heard.bytes.readableBytes == size }
        await proxy.shutdown()
        await server.close()
    }

    @Test func atTheLimitTheNextConnectionIsRefused() async throws {
        var settings = FaultProxy.Configuration.toTestServer
        settings.connectionLimit = 2
        try await withConnection(settings) { it in
            let second = try await TestSocket.connect(to: it.proxy.port)
            try await eventually("two are open") { it.server.accepted.count == 2 }
            try await expectReset(connectingTo: it.proxy.port)
            #expect(it.server.accepted.count == 2)
            #expect(await it.proxy.statistics.connectionsRefused == 1)

            await second.close()
            await it.server.accepted[1].close()
            try await eventually("there is room again") { await it.proxy.statistics.connectionsOpen == 1 }
            let fourth = try await TestSocket.connect(to: it.proxy.port)
            try await fourth.send("in")
            try await eventually("the fourth is carried") { it.server.accepted.last?.heard.text == "in" }
            await fourth.close()
        }
    }

    @Test func aTakenPortIsAnErrorWithItsNumber() async throws {
        let server = try await TestServer.start()
        let taken = server.port
        let error = await #expect(throws: IOError.self) {
            _ = try await FaultProxy.start(.init(listenPort: taken, serverHost: "127.0.0.1", serverPort: taken))
        }
        #expect(error?.errnoCode == EADDRINUSE)
        await server.close()
    }

    @Test func shutdownClosesEverythingAndMayBeRepeated() async throws {
        try await withConnection { it in
            await it.proxy.shutdown()
            try await eventually("the client is told") { it.client.heard.end != nil }
            try await eventually("the server is told") { it.accepted.heard.end != nil }
            await #expect(throws: (any Error).self) {
                _ = try await TestSocket.connect(to: it.proxy.port)
            }
            await it.proxy.shutdown()
        }
    }
}
