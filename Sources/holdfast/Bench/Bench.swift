import ArgumentParser
import Foundation

struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure what deliveries and connections cost on this machine.",
        discussion: """
            Starts a gateway in a process of its own, loads it from this one, and prints what the gateway's process used.
            Compare figures of one run only: machines differ, and a busy one differs from itself.
            """,
        subcommands: [BenchFanout.self, BenchConnections.self, BenchReference.self]
    )
}

/// Options of both benchmarks.
struct BenchOptions: ParsableArguments {
    @Option(name: .long, help: "Event loops of the gateway.")
    var threads = 1

    @Flag(name: .long, inversion: .prefixedNo, help: "Keep the gateway on core 0 and the load client on core 1.")
    var pin = true

    @Flag(name: .long, help: "Use SocketShark's dialect instead of the native one.")
    var plain = false

    @Flag(name: .long, help: "Measure what the gateway is to be compared with too, in the same run.")
    var compare = false

    @Flag(name: .long, help: "Print one JSON object instead of text.")
    var json = false

    /// Says how far the work is, on standard error.
    func progress(_ text: String) {
        printError("… \(text)")
    }

    func start(_ subject: BenchSubject) throws -> BenchServer {
        if self.pin { try holdfast.pin(to: 1) }
        return try BenchServer(subject, threads: self.threads, core: self.pin ? 0 : nil)
    }
}

/// Polls until `condition` holds. - Throws: `ExitCode.failure` after `seconds`, saying what was waited for.
func wait(for what: String, seconds: Double, _ condition: () async throws -> Bool) async throws {
    let end = ContinuousClock.now + .seconds(seconds)
    while try await !condition() {
        guard ContinuousClock.now < end else {
            printError("Gave up after \(Int(seconds)) s: \(what).")
            throw ExitCode.failure
        }
        try await Task.sleep(for: .milliseconds(2))
    }
}

extension Double {
    func text(_ digits: Int) -> String { String(format: "%.\(digits)f", self) }
}
