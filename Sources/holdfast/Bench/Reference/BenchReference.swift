import ArgumentParser
import HoldfastServer
import Hummingbird
import Logging
import NIOPosix

/// What a benchmark measures: the gateway, or a server that is only there to be compared with it.
enum BenchSubject: String, CaseIterable, ExpressibleByArgument {
    case gateway
    /// The least that a SwiftNIO program can do: no HTTP library, no sessions, no outbox, no history.
    case prototype
    /// The gateway's own channel pipeline without sessions, as `holdfast echo` runs it.
    case channel
    /// The same behind SwiftNIO's typed upgrade and a task per connection, which is Hummingbird's way.
    case task

    var title: String {
        switch self {
        case .gateway: "gateway"
        case .prototype: "bare SwiftNIO prototype"
        case .channel: "the gateway's channel, echo only"
        case .task: "async channel with a task, echo only"
        }
    }

    /// How to run it, as arguments of this program. Each prints where it listens, as `serve` does.
    var arguments: [String] {
        switch self {
        case .gateway: ["serve", "--dev", "--port", "0"]
        case .channel: ["echo", "--port", "0"]
        case .prototype, .task: ["bench", "reference", self.rawValue]
        }
    }
}

/// Runs a server that the gateway is compared with. Started by the benchmarks, in a process of its own.
struct BenchReference: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reference",
        abstract: "Run a server that the benchmarks compare the gateway with.",
        shouldDisplay: false
    )

    @Argument(help: "prototype or task.")
    var subject: BenchSubject

    func run() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        switch self.subject {
        case .prototype: try await PrototypeServer.run(on: group)
        case .task: try await TaskPerConnectionServer.run(on: group)
        case .gateway, .channel:
            throw ValidationError(
                "Run `holdfast \(self.subject.arguments.joined(separator: " "))` for \(self.subject.rawValue).")
        }
    }
}
