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
            """
    )

    @OptionGroup var options: BenchOptions

    @Option(name: .long, help: "Sessions to open.")
    var count = 10_000

    @Flag(name: .long, help: "Let all sessions subscribe to the same topic.")
    var oneTopic = false

    @Option(name: .long, help: "Connects under way at a time.")
    var inFlight = 64

    func run() async throws {
        let server = try self.options.start()
        defer { server.stop() }
        let clients = try await BenchClients(host: server.host, port: server.port)
        // A few connections first, so that what is allocated once is not counted as theirs.
        let warm = 100
        try await self.open(0..<warm, clients)
        let before = try await server.usage()
        try await self.open(warm..<(warm + self.count), clients)
        let after = try await server.usage()
        let snapshot = try await clients.snapshot()
        guard snapshot.failures == 0 else {
            printError("\(snapshot.failures) connections were lost.")
            throw ExitCode.failure
        }
        let cpu = (after.cpu - before.cpu) * 1_000_000 / Double(self.count)
        let memory = before.memory.flatMap { start in
            after.memory.map { Double($0 - start) / 1024 / Double(self.count) }
        }
        if self.options.json {
            printNow(
                "{\"sessions\":\(self.count),\"threads\":\(self.options.threads),\"cpu_us_per_connect\":\(cpu.text(1)),"
                    + "\"kib_per_session\":\(memory.map { $0.text(2) } ?? "null")}"
            )
        } else {
            printNow(
                "\(self.count) idle \(self.options.plain ? "plain" : "native") sessions with one subscription each: "
                    + "\(memory.map { $0.text(1) + " KiB" } ?? "unknown memory") per session, \(cpu.text(0)) µs of gateway CPU per connect"
            )
        }
        try await clients.stop()
    }

    private func open(_ range: Range<Int>, _ clients: BenchClients) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (done, index) in range.enumerated() {
                if done >= self.inFlight { try await group.next() }
                if done > 0, done % 2000 == 0 { self.options.progress("\(done) of \(range.count) sessions") }
                let topic = self.oneTopic ? "bench.idle" : "bench.user_\(index)"
                let future = clients.open(subscription: topic, isNative: !self.options.plain, isSampled: false)
                group.addTask { try await future.get() }
            }
            try await group.waitForAll()
        }
        try await wait(for: "every session has its replies", seconds: 120) {
            try await clients.snapshot().ready == range.upperBound
        }
    }
}
