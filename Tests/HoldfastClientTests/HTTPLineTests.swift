import HoldfastCore
import HoldfastFaults
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import HoldfastClient

/// The client over HTTP, against a real gateway.
@Suite("Lines of HTTP requests", .timeLimit(.minutes(2)))
struct HTTPLineTests {
    private func withSubscriber(
        _ transport: ClientTransport,
        _ body: @escaping @Sendable (TestGateway, ClientConnection, EventLog) async throws -> Void
    ) async throws {
        try await TestGateway.with { it in
            var configuration = try it.clientConfiguration()
            configuration.machine.transports = [transport]
            let connection = try ClientConnection(configuration)
            let log = EventLog(connection)
            connection.connect()
            connection.subscribe("calls.x")
            try await log.waitFor("subscribed") { $0.isSubscribed(times: 1) }
            #expect(await connection.statistics?.transport == transport)
            try await body(it, connection, log)
            connection.close()
            try await log.waitFor("the end") { $0.hasEnded }
        }
    }

    @Test(arguments: [ClientTransport.stream, .poll])
    func messagesComeByteForByte(_ transport: ClientTransport) async throws {
        try await self.withSubscriber(transport) { it, _, log in
            let data = [
                #"{"n":12345678901234567890.10}"#, #"{"a":1,"a":2}"#, #""😀\u00e9\/""#, "null", "1e400", "\"\\n\"",
            ]
            for data in data { try await it.publish("calls.x", data) }
            try await log.waitFor("all") { $0.data.count == data.count }
            #expect(log.data == data)
            #expect(log.states == [.connecting, .connected])
        }
    }

    @Test(arguments: [ClientTransport.stream, .poll])
    func messagesOfTheAppAreAnswered(_ transport: ClientTransport) async throws {
        try await self.withSubscriber(transport) { _, connection, log in
            let ids = (0..<50).map { _ in connection.nextID() }
            for (number, id) in ids.enumerated() {
                connection.send(id: id, ByteBuffer(string: "\(number)"), to: "calls.x")
            }
            try await log.waitFor("the replies") { log in
                let answered = log.news.compactMap {
                    if case .reply(let id, let event) = $0, event.isReply { id } else { nil }
                }
                return answered == ids
            }
        }
    }

    @Test(arguments: [ClientTransport.stream, .poll])
    func aCutLineIsResumed(_ transport: ClientTransport) async throws {
        try await self.withSubscriber(transport) { it, _, log in
            try await it.publish("calls.x", "1")
            try await log.waitFor("the first") { $0.data.count == 1 }
            await it.proxy.cut()
            for number in 2...20 { try await it.publish("calls.x", "\(number)") }
            try await log.waitFor("the loss") { $0.states.contains(.reconnecting) }
            await it.proxy.restore()
            try await log.waitFor("all") { $0.data.count == 20 }
            #expect(log.data == (1...20).map(String.init))
        }
    }

    /// What was found out about WebSockets survives the process.
    @Test func theVerdictIsKept() async throws {
        final class Storage: LadderStorage {
            let memory = NIOLockedValueBox<ByteBuffer?>(nil)
            func load() -> ByteBuffer? { self.memory.withLockedValue { $0 } }
            func save(_ memory: ByteBuffer?) { self.memory.withLockedValue { $0 = memory } }
        }
        try await TestGateway.with { it in
            let storage = Storage()
            storage.save(
                LadderMemory(strikes: 2, until: Instant(microseconds: 4_000_000_000_000_000)).json())
            var configuration = try it.clientConfiguration()
            configuration.ladderStorage = storage
            let connection = try ClientConnection(configuration)
            let log = EventLog(connection)
            connection.connect()
            connection.subscribe("calls.x")
            try await log.waitFor("subscribed") { $0.isSubscribed(times: 1) }
            let statistics = await connection.statistics
            #expect(statistics?.transport == .stream)
            #expect(statistics?.webSocket == .blocked)
            // Asked for, a WebSocket takes over. It has not lived yet, so the verdict stands.
            connection.input(.probe)
            try await log.waitFor("the way up") { $0.lines.contains(.carried(by: .websocket)) }
            #expect(storage.load().flatMap(LadderMemory.init(parsing:))?.until != nil)
            connection.close()
            try await log.waitFor("the end") { $0.hasEnded }
        }
    }
}
