import ArgumentParser
import Foundation
import HoldfastSimulation
import NIOCore

struct SimulateHerd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "herd",
        abstract: "See how clients come back together after their gateway was away, and how much of a herd they are.",
        discussion: """
            Real client machines in virtual time, before a model of a gateway that takes connections at a rate; beside \
            them the formulas of other libraries, before the same model. See docs/herd.md. Exit code 1: our own clients \
            did not keep the promise (P4).
            """
    )

    @Option(name: .long, help: "How many clients; a million take about 3 GB.")
    var clients = 10_000

    @Option(
        name: .long, help: "What befalls the gateway: \(HerdEvent.allCases.map(\.rawValue).joined(separator: ", ")).")
    var event = HerdEvent.crash

    @Option(name: .long, help: "Seconds from the crash to the restart.")
    var outage = 1.0

    @Option(name: .long, help: "Connections that the gateway takes per second (accept_rate).")
    var acceptRate = 2000.0

    @Option(
        name: .long,
        help: "What becomes of those beyond that rate: queue (the listen queue) or refuse (503 with Retry-After)."
    )
    var overload = HerdOverload.queue

    @Option(name: .long, help: "Crashes in a row; the last one is reported.")
    var crashes = 1

    @Flag(name: .long, inversion: .prefixedNo, help: "Whether the gateway tells its clients how far to spread.")
    var spread = true

    @Flag(name: .long, inversion: .prefixedNo, help: "Run the formulas of other libraries too.")
    var peers = true

    @Option(name: .long, help: "The same seed makes the same run.")
    var seed: UInt64 = 1

    @Flag(name: .long, help: "Print one JSON object instead of the table.")
    var json = false

    @Option(name: .long, help: "Write the attempts over time to this file, as SVG.")
    var plot: String?

    func validate() throws {
        try self.check(self.clients, in: 1...5_000_000, "--clients")
        try self.check(self.outage, in: 0...600, "--outage")
        try self.check(self.acceptRate, in: 1...1_000_000, "--accept-rate")
        try self.check(self.crashes, in: 1...10, "--crashes")
    }

    private func check<Value: Comparable>(_ value: Value, in range: ClosedRange<Value>, _ name: String) throws {
        guard !range.contains(value) else { return }
        throw ValidationError(
            "\(name) is \(value); it must be from \(range.lowerBound) to \(range.upperBound). See docs/herd.md.")
    }

    func run() throws {
        var settings = HerdSettings()
        settings.clients = self.clients
        settings.event = self.event
        settings.outage = Int((self.outage * 1000).rounded())
        settings.acceptRate = self.acceptRate
        settings.overload = self.overload
        settings.crashes = self.crashes
        settings.tellsSpread = self.spread
        settings.seed = self.seed
        let own = Herd.run(settings)
        // The silence of a host that vanished is not modelled for them.
        let others = self.peers && self.event != .vanish ? PeerBackoff.all : []
        let reports = [own] + others.map { Herd.run(settings, as: $0) }
        if let plot = self.plot, let picture = HerdPlot(reports) {
            try Data(picture.svg.utf8).write(to: URL(filePath: plot))
        }
        if self.json {
            print(String(buffer: HerdReport.json(reports, settings: settings)))
        } else {
            print(HerdTable.text(reports))
            print(
                "seed \(settings.seed); P4: at most \(settings.knocksMax) clients in any 100 ms, 95 % back within \(settings.backMax) ms"
            )
        }
        if !own.keepsPromise { throw ExitCode.failure }
    }
}

extension HerdEvent: ExpressibleByArgument {}
extension HerdOverload: ExpressibleByArgument {}
