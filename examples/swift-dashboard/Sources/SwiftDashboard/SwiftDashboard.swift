import Foundation
import HoldfastClient
import Logging
import ServiceLifecycle

/// Shows the calls of a telephone system as they happen, and what becomes of the line to it.
@main
struct SwiftDashboard {
    static let usage = """
        usage: SwiftDashboard [URL] [SUBSCRIPTION]

        URL           a gateway (default http://127.0.0.1:8080)
        SUBSCRIPTION  service.topic (default calls.live)

        On a terminal: a table that is drawn anew. Otherwise: one line for each thing that happens.
        """

    static func main() async throws {
        var arguments = Array(CommandLine.arguments.dropFirst())
        guard arguments.count <= 2, !arguments.contains(where: { $0.hasPrefix("-") }) else {
            print(self.usage)
            exit(arguments.contains("--help") ? 0 : 2)
        }
        if arguments.isEmpty { arguments.append("http://127.0.0.1:8080") }
        let subscription = arguments.count > 1 ? arguments[1] : "calls.live"
        let client: HoldfastClient
        do {
            client = try HoldfastClient(url: arguments[0]) { $0.machine.clientName = "swift-dashboard" }
        } catch {
            print(error)
            exit(2)
        }
        let dashboard = Dashboard(client: client, subscription: subscription)
        // Services are stopped in reverse: the dashboard first, then the client says goodbye.
        let group = ServiceGroup(
            configuration: .init(
                services: [.init(service: client), .init(service: dashboard)],
                gracefulShutdownSignals: [.sigint, .sigterm],
                logger: Logger(label: "dashboard", factory: { _ in SwiftLogNoOpLogHandler() })
            ))
        do {
            try await group.run()
        } catch {
            print("\n\(error)")
            exit(1)
        }
    }
}

/// What is published for each thing that happens to a call. Members that are not named here are left alone.
struct CallEvent: Decodable, Sendable {
    struct Person: Decodable, Sendable {
        var name: String
    }

    var call: String?
    var state: String?
    var from: Person?
    var to: Person?
}

/// Three loops, one for each thing that can be waited for.
struct Dashboard: Service {
    let client: HoldfastClient
    let subscription: String

    func run() async throws {
        let screen = Screen(subscription: self.subscription, isTerminal: isatty(STDOUT_FILENO) == 1)
        try await cancelWhenGracefulShutdown {
            try await withThrowingTaskGroup { tasks in
                tasks.addTask {
                    for await change in self.client.states { await screen.changed(change) }
                }
                tasks.addTask {
                    for await event in self.client.events { await screen.happened(event) }
                }
                tasks.addTask {
                    for try await call in self.client.subscribe(self.subscription, as: CallEvent.self) {
                        await screen.show(call)
                    }
                }
                // The first error ends all, such as a subscription that is refused.
                for try await _ in tasks {}
            }
        }
        await screen.leave()
    }
}
