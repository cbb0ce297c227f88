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

    @Option(
        name: .long,
        help: "Transports of the sessions: any of websocket,stream,poll, or all; measured one after the other."
    )
    var transport = BenchTransports(list: [.websocket])

    @Flag(name: .long, help: "Measure what the gateway is to be compared with too, in the same run.")
    var compare = false

    @Flag(name: .long, help: "Print one JSON object instead of text.")
    var json = false

    func validate() throws {
        if self.plain, self.transport.list != [.websocket] {
            throw ValidationError(
                "SocketShark's dialect is spoken on WebSockets only: leave out --plain or --transport.")
        }
    }

    /// What is measured, the gateway itself last.
    func cases(_ references: [BenchSubject]) -> [BenchCase] {
        (self.compare ? references : []).map { BenchCase(subject: $0, transport: .websocket) }
            + self.transport.list.map { BenchCase(subject: .gateway, transport: $0) }
    }

    /// Says how far the work is, on standard error.
    func progress(_ text: String) {
        printError("… \(text)")
    }

    func start(_ subject: BenchSubject) throws -> BenchServer {
        if self.pin { try holdfast.pin(to: 1) }
        return try BenchServer(subject, threads: self.threads, core: self.pin ? 0 : nil)
    }
}

enum BenchTransport: String, CaseIterable {
    case websocket, stream, poll
}

struct BenchTransports: ExpressibleByArgument, CustomStringConvertible {
    let list: [BenchTransport]

    init(list: [BenchTransport]) { self.list = list }

    init?(argument: String) {
        let words = argument.split(separator: ",", omittingEmptySubsequences: false)
        let list =
            argument == "all" ? BenchTransport.allCases : words.compactMap { BenchTransport(rawValue: String($0)) }
        guard argument == "all" || list.count == words.count else { return nil }
        self.init(list: list)
    }

    var description: String { self.list.map(\.rawValue).joined(separator: ",") }
}

/// One thing to measure.
struct BenchCase {
    let subject: BenchSubject
    let transport: BenchTransport

    var title: String { self.subject == .gateway ? "\(self.subject.title), \(self.transport)" : self.subject.title }
    /// Name in JSON.
    var key: String {
        self.subject == .gateway && self.transport != .websocket
            ? "\(self.subject)_\(self.transport)" : "\(self.subject)"
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
