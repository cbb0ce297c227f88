import ArgumentParser
import Foundation
import Histogram
import HoldfastClient
import NIOCore

struct BenchFanout: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fanout",
        abstract: "What one delivery to one of many subscribers costs.",
        discussion: """
            Paced: publications at a steady rate, the usual life of a gateway. Flood: publications as fast as they are taken,
            at most --in-flight at a time, where everything that one turn of the event loop has for a subscriber leaves in
            one write. CPU is the gateway's own user and system time, publishing over HTTP included.

            --compare first measures a bare SwiftNIO prototype, the least that such a server can cost on this machine.
            """
    )

    @OptionGroup var options: BenchOptions

    @Option(name: .long, help: "Subscribers of the one topic.")
    var subscribers = 1000

    @Option(name: .long, help: "Bytes of data in each publication.")
    var payload = 100

    @Option(name: .long, help: "Publications per second while paced.")
    var rate = 60.0

    @Option(name: .long, help: "Seconds of pacing.")
    var seconds = 10.0

    @Option(name: .long, help: "Publications per flood.")
    var flood = 200

    @Option(name: .long, help: "Floods; the middle one of them is printed.")
    var rounds = 5

    @Option(name: .long, help: "Publications in flight during a flood.")
    var inFlight = 64

    struct Part {
        let name: String
        let deliveries: Int
        let cpuMicroseconds: Double
        /// Of these, in the kernel.
        let kernelMicroseconds: Double
        let perSecond: Double
        /// Deliveries that left in one write, on average.
        let perWrite: Double
        let latency: Histogram<UInt32>
    }

    struct Result {
        let measured: BenchCase
        let paced: Part
        let flood: Part
    }

    func run() async throws {
        var results: [Result] = []
        for measured in self.options.cases([.prototype]) { results.append(try await self.measure(measured)) }
        if self.options.json {
            let values = results.map { "\"\($0.measured.key)\":{\(self.json($0.paced)),\(self.json($0.flood))}" }
            return printNow(
                "{\"subscribers\":\(self.subscribers),\"payload_bytes\":\(self.payload),\"threads\":\(self.options.threads),"
                    + values.joined(separator: ",") + "}"
            )
        }
        printNow(
            "\(self.subscribers) \(self.options.plain ? "plain" : "native") subscribers, \(self.payload) bytes of data, "
                + "\(self.options.threads) event loop\(self.options.threads == 1 ? "" : "s")"
        )
        for result in results {
            if results.count > 1 { printNow("\(result.measured.title)") }
            self.printPart(result.paced)
            self.printPart(result.flood)
        }
        guard let floor = results.first, self.options.compare,
            let gateway = results.first(where: {
                $0.measured.subject == .gateway && $0.measured.transport == .websocket
            })
        else { return }
        printNow(
            "gateway to prototype: \((gateway.paced.cpuMicroseconds / floor.paced.cpuMicroseconds).text(2)) times the CPU paced, "
                + "\((gateway.flood.perSecond / floor.flood.perSecond).text(2)) times the deliveries per second in a flood"
        )
    }

    private func measure(_ measured: BenchCase) async throws -> Result {
        let server = try self.options.start(measured.subject)
        defer { server.stop() }
        let clients = try await BenchClients(host: server.host, port: server.port)
        self.options.progress("\(measured.title): \(self.subscribers) subscribers connect")
        for index in 0..<self.subscribers {
            // Every 20th connection measures latency: enough samples, and the client stays light.
            try await clients.open(
                measured.transport, subscription: "bench.fanout", isNative: !self.options.plain,
                isSampled: index % 20 == 0
            ).get()
        }
        try await wait(for: "every subscriber has its reply", seconds: 60) {
            try await clients.snapshot().ready == self.subscribers
        }
        let paced = try await self.paced(server, clients)
        var floods: [Part] = []
        for round in 1...max(1, self.rounds) {
            self.options.progress("flood \(round) of \(self.rounds)")
            floods.append(try await self.flood(server, clients))
        }
        floods.sort { $0.perSecond < $1.perSecond }
        try await clients.stop()
        return Result(measured: measured, paced: paced, flood: floods[floods.count / 2])
    }

    /// Data of exactly ``payload`` bytes that carries the time.
    private func data() -> String {
        let head = "{\"t\":\(NIODeadline.now().uptimeNanoseconds),\"x\":\""
        return head + String(repeating: "x", count: max(0, self.payload - head.utf8.count - 2)) + "\"}"
    }

    private func publish(_ publisher: EventPublisher) async throws {
        do {
            // One publication as cheap as it can be: no key to remember.
            try await publisher.publish(ByteBuffer(string: self.data()), to: "bench.fanout", idempotencyKey: nil)
        } catch {
            printError("Publishing failed: \(error)")
            throw ExitCode.failure
        }
    }

    private func paced(_ server: BenchServer, _ clients: BenchClients) async throws -> Part {
        let count = Int(self.rate * self.seconds)
        // The first publications warm caches and allocator; they are not counted.
        for _ in 0..<10 { try await self.publish(server.publisher) }
        try await self.settle(clients, 10)
        return try await self.measure("paced", count, server, clients) {
            let start = ContinuousClock.now
            for index in 0..<count {
                try await Task.sleep(until: start + .seconds(Double(index) / self.rate), clock: .continuous)
                try await self.publish(server.publisher)
                if index % Int(max(1, self.rate * 2)) == 0 {
                    self.options.progress("paced: \(index) of \(count) publications")
                }
            }
        }
    }

    private func flood(_ server: BenchServer, _ clients: BenchClients) async throws -> Part {
        try await self.measure("flood", self.flood, server, clients) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<self.flood {
                    if index >= self.inFlight { try await group.next() }
                    let (bench, publisher) = (self, server.publisher)
                    group.addTask { try await bench.publish(publisher) }
                }
                try await group.waitForAll()
            }
        }
    }

    private func settle(_ clients: BenchClients, _ publications: Int) async throws {
        try await wait(for: "every delivery has arrived", seconds: 60) {
            try await clients.snapshot().frames >= publications * self.subscribers
        }
        try await clients.reset()
    }

    private func measure(
        _ name: String,
        _ publications: Int,
        _ server: BenchServer,
        _ clients: BenchClients,
        _ body: () async throws -> Void
    ) async throws -> Part {
        let before = try await server.usage()
        let start = ContinuousClock.now
        try await body()
        let deliveries = publications * self.subscribers
        try await wait(for: "every delivery has arrived", seconds: 60) {
            try await clients.snapshot().frames >= deliveries
        }
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let after = try await server.usage()
        let snapshot = try await clients.snapshot()
        guard snapshot.frames == deliveries, snapshot.failures == 0 else {
            printError("\(snapshot.frames) deliveries instead of \(deliveries), \(snapshot.failures) connections lost.")
            throw ExitCode.failure
        }
        try await clients.reset()
        return Part(
            name: name,
            deliveries: deliveries,
            cpuMicroseconds: (after.cpu - before.cpu) * 1_000_000 / Double(deliveries),
            kernelMicroseconds: (after.kernel - before.kernel) * 1_000_000 / Double(deliveries),
            perSecond: Double(deliveries) / seconds,
            perWrite: Double(deliveries) / max(1, after.writes - before.writes),
            latency: snapshot.latency
        )
    }

    private func json(_ part: Part) -> String {
        "\"\(part.name)\":{\"deliveries\":\(part.deliveries),\"cpu_us_per_delivery\":\(part.cpuMicroseconds.text(3)),"
            + "\"kernel_us_per_delivery\":\(part.kernelMicroseconds.text(3)),"
            + "\"deliveries_per_second\":\(part.perSecond.text(0)),\"deliveries_per_write\":\(part.perWrite.text(1)),"
            + "\"latency_ms\":{\"p50\":\(Self.ms(part, 50)),\"p99\":\(Self.ms(part, 99)),\"max\":\(Self.ms(part, 100))}}"
    }

    private func printPart(_ part: Part) {
        printNow(
            "  \(part.name): \(part.deliveries) deliveries, \(part.cpuMicroseconds.text(2)) µs of CPU each "
                + "(\(part.kernelMicroseconds.text(2)) in the kernel), \(part.perSecond.text(0)) per second, "
                + "\(part.perWrite.text(1)) per write; latency p50 \(Self.ms(part, 50)) ms, p99 \(Self.ms(part, 99)) ms, "
                + "max \(Self.ms(part, 100)) ms"
        )
    }

    private static func ms(_ part: Part, _ percentile: Double) -> String {
        (Double(part.latency.valueAtPercentile(percentile)) / 1_000_000).text(2)
    }
}
