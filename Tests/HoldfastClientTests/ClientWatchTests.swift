import HoldfastClient
import HoldfastServer
import Logging
import Metrics
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Keeps what is counted, by label and dimensions.
private final class Counts: MetricsFactory, Sendable {
    private let values = NIOLockedValueBox<[String: Int64]>([:])

    private final class One: CounterHandler, TimerHandler, Sendable {
        private let add: @Sendable (Int64) -> Void

        init(_ add: @escaping @Sendable (Int64) -> Void) { self.add = add }

        func increment(by amount: Int64) { self.add(amount) }
        func reset() {}
        func recordNanoseconds(_ duration: Int64) { self.add(1) }
    }

    subscript(_ name: String) -> Int64 { self.values.withLockedValue { $0[name] ?? 0 } }

    private func one(_ label: String, _ dimensions: [(String, String)]) -> One {
        let name = ([label] + dimensions.map { "\($0.0)=\($0.1)" }).joined(separator: " ")
        return One { [values] amount in values.withLockedValue { $0[name, default: 0] += amount } }
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        self.one(label, dimensions)
    }
    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler { self.one(label, dimensions) }
    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        NOOPMetricsHandler.instance
    }
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
}

private struct Lines: LogHandler {
    let lines: NIOLockedValueBox<[String]>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let all = self.metadata.merging(event.metadata ?? [:]) { $1 }
        let words = all.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
        self.lines.withLockedValue { $0.append("\(event.level) \(event.message) \(words)") }
    }
}

@Suite("What a client says of itself", .timeLimit(.minutes(2)))
struct ClientWatchTests {
    @Test func logAndMetrics() async throws {
        try await TestGateway.with { it in
            let counts = Counts()
            let lines = NIOLockedValueBox<[String]>([])
            let client = try HoldfastClient(url: "http://127.0.0.1:\(it.proxy.port)") {
                $0.metrics = counts
                $0.logger = Logger(label: "client") { _ in Lines(lines: lines) }
                $0.machine.transports = [.websocket]
            }
            let calls = client.subscribe("calls.x")
            try await calls.ready()
            await it.proxy.cut(reach: .existingConnections)
            for number in 1...3 { try await it.publish("calls.x", String(number)) }
            for try await message in calls where message.offset == 3 { break }
            #expect(counts["holdfast_client_messages_total"] == 3)
            #expect(counts["holdfast_client_sessions_total"] == 1)
            #expect(counts["holdfast_client_sessions_resumed_total"] == 1)
            #expect(counts["holdfast_client_attempts_total transport=websocket"] >= 2)
            try await eventually("a round trip") { counts["holdfast_client_round_trip"] > 0 }

            let refused = client.subscribe("nodot")
            await #expect(throws: HoldfastError.self) { try await refused.ready() }
            let session = try #require(await client.statistics?.sessionHandle)
            let said = lines.withLockedValue { $0 }
            let gateway = "gateway=127.0.0.1:\(it.proxy.port)"
            #expect(
                said.contains { $0.hasPrefix("info a new session \(gateway)") && $0.hasSuffix("session=\(session)") })
            #expect(said.contains { $0.hasPrefix("info the session goes on \(gateway)") })
            #expect(said.contains { $0.hasPrefix("warning ") && $0.hasSuffix("subscription=nodot") })
            // The session's secret is behind a dot, and stands nowhere.
            #expect(!said.contains { $0.contains("\(session).") })
            client.close()
        }
    }
}
