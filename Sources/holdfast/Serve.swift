import ArgumentParser
import HoldfastServer

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a gateway.",
        discussion: """
            Without a file, everything has a default; --dev allows every service.topic to anonymous clients, keeps history
            and, on loopback, opens the server API without a key.

            Every key of the file can be overridden by the environment: ws_ping.interval is HOLDFAST_WS_PING_INTERVAL,
            api.key is HOLDFAST_API_KEY. `holdfast check FILE` looks at a file without starting anything.

            SIGTERM or Ctrl-C stops politely: clients are told to go elsewhere and have drain.deadline seconds to do so.
            """
    )

    @OptionGroup var source: ConfigurationSource

    @Option(name: .long, help: "Address to listen on (ws_host).")
    var host: String?

    @Option(name: .long, help: "Port to listen on (ws_port); 0 takes a free one.")
    var port: Int?

    func run() async throws {
        var configuration = try self.source.load()
        if let host = self.host { configuration.host = host }
        if let port = self.port {
            guard (0...65535).contains(port) else {
                throw ValidationError("--port must be from 0 to 65535, but is \(port).")
            }
            configuration.port = port
        }
        let logger = try StandardErrorLog.logger(level: configuration.log.level)
        try await GatewayServer(configuration: configuration, logger: logger).runUntilSignal { [configuration] port in
            let scheme = configuration.tls == nil ? "http" : "https"
            printNow("listening on \(scheme)://\(configuration.urlHost):\(port)")
            if configuration.isDevelopment, !configuration.isLoopback {
                printNow(
                    "--dev on an address others can reach: anybody may subscribe; the server API stays closed without a key"
                )
            }
        }
    }
}
