import ArgumentParser
import Foundation
import NIOCore

struct BenchConnections: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "connections",
        abstract: "What an idle session costs, and what a connect does.",
        discussion: """
            Opens sessions with one subscription each, every one to a topic of its own, and prints the gateway's proportional
            set size and CPU per session. Needs two file descriptors per session (ulimit -n).

            --compare also measures servers without sessions: a bare SwiftNIO prototype, an asynchronous channel with a task
            per connection, and the gateway's own channel.
            """
    )

    @OptionGroup var options: BenchOptions

    @Option(name: .long, help: "Sessions to open.")
    var count = 10_000

    @Flag(name: .long, help: "Let all sessions subscribe to the same topic.")
    var oneTopic = false

    @Option(name: .long, help: "Connects under way at a time.")
    var inFlight = 64

    struct Result {
        let measured: BenchCase
        /// `nil` where the system does not tell.
        let kibPerSession: Double?
        let cpuMicroseconds: Double
    }

    func run() async throws {
        var results: [Result] = []
        for measured in self.options.cases([.prototype, .task, .channel]) {
            results.append(try await self.measure(measured))
        }
        if self.options.json {
            let values = results.map {
                "\"\($0.measured.key)\":{\"cpu_us_per_connect\":\($0.cpuMicroseconds.text(1)),"
                    + "\"kib_per_session\":\($0.kibPerSession.map { $0.text(2) } ?? "null")}"
            }
            return printNow(
                "{\"sessions\":\(self.count),\"threads\":\(self.options.threads),\(values.joined(separator: ","))}")
        }
        printNow("\(self.count) idle \(self.options.plain ? "plain" : "native") sessions with one subscription each")
        for result in results {
            printNow(
                "  \(result.measured.title): \(result.kibPerSession.map { $0.text(1) + " KiB" } ?? "unknown memory") per session, "
                    + "\(result.cpuMicroseconds.text(0)) µs of CPU per connect"
            )
        }
    }

    private func measure(_ measured: BenchCase) async throws -> Result {
        let server = try self.options.start(measured.subject)
        defer { server.stop() }
        let clients = try await BenchClients(host: server.host, port: server.port)
        self.options.progress(measured.title)
        // A few connections first, so that what is allocated once is not counted as theirs.
        let warm = 100
        try await self.open(0..<warm, measured.transport, clients)
        let before = try await server.usage()
        try await self.open(warm..<(warm + self.count), measured.transport, clients)
        let after = try await server.usage()
        let snapshot = try await clients.snapshot()
        guard snapshot.failures == 0 else {
            printError("\(snapshot.failures) connections were lost.")
            throw ExitCode.failure
        }
        try await clients.stop()
        return Result(
            measured: measured,
            kibPerSession: before.memory.flatMap { start in
                after.memory.map { Double($0 - start) / 1024 / Double(self.count) }
            },
            cpuMicroseconds: (after.cpu - before.cpu) * 1_000_000 / Double(self.count)
        )
    }

    private func open(_ range: Range<Int>, _ transport: BenchTransport, _ clients: BenchClients) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (done, index) in range.enumerated() {
                if done >= self.inFlight { try await group.next() }
                if done > 0, done % 2000 == 0 { self.options.progress("\(done) of \(range.count) sessions") }
                let topic = self.oneTopic ? "bench.idle" : "bench.user_\(index)"
                let future = clients.open(
                    transport, subscription: topic, isNative: !self.options.plain, isSampled: false)
                group.addTask { try await future.get() }
            }
            try await group.waitForAll()
        }
        try await wait(for: "every session has its replies", seconds: 120) {
            try await clients.snapshot().ready == range.upperBound
        }
    }
}
