import HoldfastCore
import HoldfastFaults
import HoldfastProtocol
import NIOCore
import Testing

@testable import HoldfastClient
@testable import HoldfastServer

@Suite("Client connection against a real gateway", .timeLimit(.minutes(2)))
struct ClientConnectionTests {
    /// Connected through the proxy and subscribed to `calls.x`.
    private func withSubscriber(
        _ configuration: HoldfastServer.Configuration = TestGateway.configuration,
        _ body: @escaping @Sendable (TestGateway, ClientConnection, EventLog) async throws -> Void
    ) async throws {
        try await TestGateway.with(configuration) { it in
            // Where the machine is so busy that opening a WebSocket takes seconds, the ladder would take another line, and the
            // proxy would cut one that nobody uses.
            var client = try it.clientConfiguration()
            client.machine.transports = [.websocket]
            let connection = try ClientConnection(client)
            let log = EventLog(connection)
            connection.connect()
            connection.subscribe("calls.x")
            try await log.waitFor("subscribed") { $0.isSubscribed(times: 1) }
            try await body(it, connection, log)
            connection.close()
            try await log.waitFor("the end") { $0.hasEnded }
            #expect(log.states.last == .closed)
            #expect(await connection.statistics == nil)
        }
    }

    @Test func messagesComeByteForByte() async throws {
        try await self.withSubscriber { it, _, log in
            let data = [
                #"{"n":12345678901234567890.10}"#, #"{"a":1,"a":2}"#, #""😀\u00e9\/""#, "null", "1e400", " [ ] ",
            ]
            for data in data { try await it.publish("calls.x", data) }
            try await log.waitFor("all") { $0.data.count == data.count }
            #expect(log.data == data.map { $0 == " [ ] " ? "[ ]" : $0 })
            #expect(log.states == [.connecting, .connected])
        }
    }

    @Test func aMessageOfTheAppIsAnswered() async throws {
        try await self.withSubscriber { _, connection, log in
            let id = connection.nextID()
            connection.send(id: id, ByteBuffer(string: #"{"x":1.10}"#), to: "calls.x")
            try await log.waitFor("the reply") { log in
                log.news.contains { if case .reply(id, let event) = $0 { event.isReply } else { false } }
            }
        }
    }

    @Test func itSurvivesALineThatIsClosed() async throws {
        try await self.withSubscriber { it, connection, log in
            try await it.publish("calls.x", "1")
            try await log.waitFor("before") { $0.data == ["1"] }
            // Both ends hear of it.
            await it.proxy.shutdown()
            try await it.publish("calls.x", "2")
            let proxy = try await FaultProxy.start(
                .init(listenPort: it.proxy.port, serverHost: "127.0.0.1", serverPort: it.port)
            )
            try await log.waitFor("what was missed") { $0.data == ["1", "2"] }
            #expect(log.resumed == [false, true])
            #expect(log.states.contains(.reconnecting))
            #expect(log.states.last == .connected)
            #expect(!log.hasBeenSuspicious)
            await proxy.shutdown()
        }
    }

    @Test func itSurvivesALineThatIsSwallowed() async throws {
        try await self.withSubscriber { it, connection, log in
            let start = ContinuousClock.now
            await it.proxy.cut(reach: .existingConnections)
            for number in 1...60 { try await it.publish("calls.x", String(number)) }
            try await log.waitFor("what was missed") { $0.data.count == 60 }
            // Quiet for 0.2 s, no answer for at most 2 s, a new line at once.
            #expect(ContinuousClock.now - start < .seconds(7))
            #expect(log.data == (1...60).map(String.init))
            #expect(log.hasBeenSuspicious)
            #expect(log.resumed == [false, true])
            #expect(await it.proxy.statistics.bytesSwallowedToClient > 0)
            try await it.publish("calls.x", "61")
            try await log.waitFor("the new line is live") { $0.data.count == 61 }
            #expect(await connection.statistics?.counts.duplicates == 0)
        }
    }

    @Test func aSlowLineIsKeptAndNothingIsLostOrDoubled() async throws {
        try await self.withSubscriber { it, connection, log in
            await it.proxy.cut(packets: .delayed, reach: .existingConnections)
            try await it.publish("calls.x", "1")
            try await log.waitFor("suspected") { $0.hasBeenSuspicious }
            await it.proxy.restore()
            try await it.publish("calls.x", "2")
            try await log.waitFor("both") { $0.data.count == 2 }
            #expect(log.data == ["1", "2"])
        }
    }

    @Test func aSessionThatIsGoneIsRecoveredByPosition() async throws {
        var configuration = TestGateway.configuration
        configuration.sessionTTL = 0.01
        configuration.ping = .init()
        try await self.withSubscriber(configuration) { it, _, log in
            try await it.publish("calls.x", "1")
            try await log.waitFor("before") { $0.data == ["1"] }
            await it.proxy.shutdown()
            for number in 2...5 { try await it.publish("calls.x", String(number)) }
            try await eventually("the session has ended") { it.gateway.registry.sessionCount == 0 }
            let proxy = try await FaultProxy.start(
                .init(listenPort: it.proxy.port, serverHost: "127.0.0.1", serverPort: it.port)
            )
            try await log.waitFor("what was missed") { $0.data.count == 5 }
            #expect(log.data == (1...5).map(String.init))
            #expect(log.resumed == [false, false])
            #expect(log.isSubscribed(times: 2))
            #expect(
                log.news.contains {
                    if case .subscribed(_, let since?, let event) = $0 {
                        since.offset == 1 && event.isRecovered
                    } else {
                        false
                    }
                })
            #expect(log.gaps.isEmpty)
            await proxy.shutdown()
        }
    }

    @Test func aHistoryThatIsTooShortIsAGapWithItsNumbers() async throws {
        var configuration = TestGateway.configuration
        configuration.sessionTTL = 0.01
        configuration.history = .init(size: 3, ttl: 300)
        try await self.withSubscriber(configuration) { it, _, log in
            try await it.publish("calls.x", "1")
            try await log.waitFor("before") { $0.data == ["1"] }
            await it.proxy.shutdown()
            for number in 2...10 { try await it.publish("calls.x", String(number)) }
            try await eventually("the session has ended") { it.gateway.registry.sessionCount == 0 }
            let proxy = try await FaultProxy.start(
                .init(listenPort: it.proxy.port, serverHost: "127.0.0.1", serverPort: it.port)
            )
            try await log.waitFor("what there is") { $0.data.last == "10" }
            #expect(log.data == ["1", "8", "9", "10"])
            #expect(log.gaps == [.gap(subscription: "calls.x", after: 1, next: 8)])
            await proxy.shutdown()
        }
    }

    @Test func theHistoryIsReadFromAPlaceInThePast() async throws {
        try await TestGateway.with { it in
            let first = try ClientConnection(it.clientConfiguration())
            let firstLog = EventLog(first)
            first.connect()
            first.subscribe("calls.x")
            try await firstLog.waitFor("subscribed") { $0.isSubscribed(times: 1) }
            for number in 1...5 { try await it.publish("calls.x", String(number)) }
            try await firstLog.waitFor("all") { $0.data.last == "5" }
            let epochs = firstLog.news.compactMap { news in
                if case .subscribed(_, _, let event) = news { event.position?.epoch } else { nil }
            }
            let epoch = try #require(epochs.first)
            first.close()

            let second = try ClientConnection(it.clientConfiguration())
            let log = EventLog(second)
            second.subscribe("calls.x", since: Position(epoch: epoch, offset: 2))
            second.connect()
            try await log.waitFor("from there") { $0.data == ["3", "4", "5"] }
            second.close()
        }
    }

    @Test func aRefusedSubscriptionIsTold() async throws {
        var configuration = TestGateway.configuration
        configuration.isDevelopment = false
        configuration.services = ["calls": .init()]
        try await TestGateway.with(configuration) { it in
            let connection = try ClientConnection(it.clientConfiguration())
            let log = EventLog(connection)
            connection.connect()
            connection.subscribe("nope.x")
            connection.subscribe("calls.x")
            try await log.waitFor("both are refused") { $0.refusals.count == 2 }
            #expect(log.refusals == ["unknown_service", "authentication_required"])
            connection.close()
            try await log.waitFor("the end") { $0.hasEnded }
        }
    }

    @Test func credentialsThatCannotBeHadAreTold() async throws {
        struct NoTicket: Error {}
        try await TestGateway.with { it in
            var configuration = try it.clientConfiguration()
            configuration.credentials = { throw NoTicket() }
            configuration.machine.maxAttempts = 2
            let connection = try ClientConnection(configuration)
            let log = EventLog(connection)
            connection.connect()
            try await log.waitFor("the end") { $0.hasEnded }
            let problems = log.news.compactMap { if case .problem(let problem) = $0 { problem.code } else { nil } }
            // Each attempt is a WebSocket, and an event stream where that fails.
            #expect(problems == Array(repeating: "credentials_failed", count: 4) + ["max_attempts"])
        }
    }

    @Test func credentialsGoRightBehindHello() async throws {
        try await TestGateway.with { it in
            var configuration = try it.clientConfiguration()
            configuration.credentials = { .ticket("t-1") }
            let connection = try ClientConnection(configuration)
            let log = EventLog(connection)
            connection.connect()
            // A development gateway knows no method: its refusal proves that the event was there.
            try await log.waitFor("refused") { log in
                log.news.contains {
                    if case .problem(let problem) = $0 { problem.event?.name == "auth" } else { false }
                }
            }
            connection.close()
        }
    }

    @Test func itSpeaksTLS() async throws {
        try await TestCertificate.withFiles { files in
            var configuration = TestGateway.configuration
            configuration.tls = files
            try await TestGateway.with(configuration) { it in
                for host in ["localhost", "127.0.0.1"] {
                    var client = try ClientConfiguration(url: "wss://\(host):\(it.port)")
                    client.tls = try TestCertificate.clientConfiguration()
                    let connection = try ClientConnection(client)
                    let log = EventLog(connection)
                    connection.connect()
                    connection.subscribe("calls.\(host)")
                    try await log.waitFor("subscribed") { $0.isSubscribed(times: 1) }
                    try await it.publish("calls.\(host)", "1")
                    try await log.waitFor("a message") { $0.data == ["1"] }
                    connection.close()
                    try await log.waitFor("the end") { $0.hasEnded }
                }
            }
        }
    }

    @Test func aCertificateThatNobodyVouchesForIsRefused() async throws {
        try await TestCertificate.withFiles { files in
            var configuration = TestGateway.configuration
            configuration.tls = files
            try await TestGateway.with(configuration) { it in
                var client = try ClientConfiguration(url: "https://localhost:\(it.port)")
                client.machine.maxAttempts = 1
                let connection = try ClientConnection(client)
                let log = EventLog(connection)
                connection.connect()
                try await log.waitFor("the end") { $0.hasEnded }
                #expect(
                    log.events.contains(
                        .line(
                            .ended(
                                line: 1, code: .init(rawValue: 1006), reason: "TLS failed: CERTIFICATE_VERIFY_FAILED"))
                    ))
            }
        }
    }

    @Test func aReaderThatStopsClosesTheConnection() async throws {
        try await TestGateway.with { it in
            let connection = try ClientConnection(it.clientConfiguration())
            connection.connect()
            for await event in connection.events {
                if case .news(.connected) = event { break }
            }
            try await eventually("closed") { await connection.statistics == nil }
        }
    }
}

@Suite("An app that does not keep up", .timeLimit(.minutes(2)))
struct SlowReaderTests {
    @Test func nothingIsLostAndMemoryIsBounded() async throws {
        try await TestGateway.with { it in
            var configuration = try it.clientConfiguration()
            configuration.waitingEvents = 8...16
            let connection = try ClientConnection(configuration)
            connection.subscribe("calls.x")
            connection.connect()
            var events = connection.events.makeAsyncIterator()
            while let event = await events.next() {
                if case .news(.subscribed) = event { break }
            }
            let filler = String(repeating: "x", count: 1000)
            for number in 0..<900 { try await it.publish("calls.x", "[\(number),\"\(filler)\"]") }
            // The machine is handed no more than what there is room for, though all has been sent. Not all of the room is
            // for messages: on a slow machine round trips and states take some.
            try await eventually("it has begun to read") { (await connection.statistics?.received ?? 0) >= 4 }
            #expect(await connection.statistics?.received ?? 0 < 100)
            var numbers: [Int] = []
            while numbers.count < 900, let event = await events.next() {
                guard case .news(.message(let message)) = event, let data = message.data else { continue }
                numbers.append(Int(String(buffer: data).dropFirst().prefix { $0 != "," }) ?? -1)
            }
            #expect(numbers == Array(0..<900))
            connection.close()
        }
    }
}

extension EventLog {
    func isSubscribed(times: Int) -> Bool {
        self.news.count { if case .subscribed = $0 { true } else { false } } == times
    }

    fileprivate var gaps: [ConnectionNews] { self.news.filter { if case .gap = $0 { true } else { false } } }

    fileprivate var refusals: [String] {
        self.news.compactMap { if case .unsubscribed(_, let event) = $0 { event.code } else { nil } }
    }
}
