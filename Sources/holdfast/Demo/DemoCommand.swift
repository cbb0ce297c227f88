import ArgumentParser
import Foundation
import HoldfastBroker
import HoldfastServer

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "See it work: a gateway, a telephone system that publishes, and a line that you may cut.",
        discussion: """
            Starts everything on this machine, needs no configuration and keeps nothing. Open the page that it names, \
            cut the line, wait, restore it, and look at the counters: every event is numbered.
            """
    )

    @Option(
        name: .long,
        help: "Address to listen on. Others can reach the page only at an address of this machine, or 0.0.0.0.")
    var host = "127.0.0.1"

    @Option(name: .long, help: "Port to listen on; 0 takes a free one. The line itself takes another free port.")
    var port = 8080

    @Option(name: .long, help: "Events that the telephone system publishes per second.")
    var rate = 5.0

    @Option(name: .long, help: ArgumentHelp("Seconds for which a session waits for its page.", visibility: .hidden))
    var sessionTTL = 60.0

    @Option(
        name: .long, help: ArgumentHelp("Events that are kept for pages whose session is gone.", visibility: .hidden))
    var history = 1000

    func validate() throws {
        guard (0...65535).contains(self.port) else {
            throw ValidationError("--port must be from 0 to 65535, but is \(self.port).")
        }
        guard self.rate > 0, self.rate <= 1000 else {
            throw ValidationError("--rate must be above 0 and at most 1000, but is \(self.rate).")
        }
        guard self.sessionTTL > 0, self.history > 0 else {
            throw ValidationError("--session-ttl and --history must be above 0.")
        }
    }

    func run() async throws {
        let configuration = self.gatewayConfiguration()
        let logger = try StandardErrorLog.logger(level: "warning")
        let stage = DemoStage(settings: self.settings(for: configuration), logger: logger)
        let server = GatewayServer(
            configuration: configuration,
            logger: logger,
            addRoutes: { router, _ in DemoRoutes(stage: stage).add(to: router) }
        )
        try await server.runUntilSignal { port in
            do {
                try await stage.open(gatewayPort: port)
                printNow(
                    self.firstScreen(
                        url: "http://\(configuration.urlHost):\(port)", needsKey: configuration.api.key != nil))
            } catch {
                printError("The line cannot be laid: no port for it on \(configuration.host) (\(error)).")
                Foundation.exit(1)
            }
        }
        await stage.close()
    }

    private func gatewayConfiguration() -> Configuration {
        var configuration = Configuration.development
        configuration.host = self.host
        configuration.port = self.port
        configuration.sessionTTL = self.sessionTTL
        configuration.history = HistorySettings(size: self.history, ttl: 3600)
        // A demo that is stopped has nobody to be polite to.
        configuration.drain.window = 0
        configuration.drain.deadline = 0
        if !configuration.isLoopback {
            // Where others can reach the API it is closed without a key; the telephone system must get in.
            let key = ProcessInfo.processInfo.environment["HOLDFAST_API_KEY"] ?? ""
            configuration.api.key = key.isEmpty ? Self.randomKey() : key
        }
        return configuration
    }

    private static func randomKey() -> String {
        (0..<4).map { _ in String(UInt32.random(in: 0...UInt32.max), radix: 36) }.joined()
    }

    private func settings(for configuration: Configuration) -> DemoStage.Settings {
        let isEverywhere = configuration.host == "0.0.0.0" || configuration.host == "::"
        return DemoStage.Settings(
            host: isEverywhere ? "127.0.0.1" : configuration.host,
            listenHost: configuration.host,
            rate: self.rate,
            sessionTTL: self.sessionTTL,
            history: self.history,
            apiKey: configuration.api.key
        )
    }

    private func firstScreen(url: String, needsKey: Bool) -> String {
        let rate = self.rate == self.rate.rounded() ? String(Int(self.rate)) : String(self.rate)
        let publish =
            needsKey
            ? ""
            : """


              Publish an event of your own, from another terminal:
                holdfast publish calls.live '"hello, page"' --url \(url)
            """
        return """

              Holdfast demo

              Open    \(url)/demo
              Then    press “Cut the line”, wait as long as you like, and restore it.

              A telephone system publishes \(rate) numbered events a second. The page counts which of them arrive, which
              arrive twice, and which never. The line is a real TCP connection through a proxy that swallows its bytes:
              neither end is told.

              Cut it from a terminal:
                curl -H 'Content-Type: application/json' -d '{"cut":true}' \(url)/demo/cut\(publish)

              Ctrl-C stops it all.

            """
    }
}
