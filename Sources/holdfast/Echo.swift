import ArgumentParser
import HoldfastServer

struct Echo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run a bare WebSocket echo, for conformance tools.",
        discussion:
            "Text and binary messages come back as they are, through the same handshake, parser and closing as the gateway's."
    )

    @Option(name: .long, help: "Address to listen on.")
    var host = "127.0.0.1"

    @Option(name: .long, help: "Port to listen on; 0 takes a free one.")
    var port = 9001

    @Option(name: .long, help: "Largest message in bytes; beyond it close 1009.")
    var messageBytes = 64 << 20

    func validate() throws {
        guard (0...65535).contains(self.port) else {
            throw ValidationError("--port must be from 0 to 65535, but is \(self.port).")
        }
        guard self.messageBytes > 0 else { throw ValidationError("--message-bytes must be above 0.") }
    }

    func run() async throws {
        var configuration = Configuration.development
        configuration.host = self.host
        configuration.port = self.port
        configuration.limits.messageBytes = self.messageBytes
        configuration.limits.frameBytes = self.messageBytes
        configuration.drain.window = 0
        configuration.drain.deadline = 0
        configuration.isEcho = true
        let logger = try StandardErrorLog.logger(level: "warning")
        try await GatewayServer(configuration: configuration, logger: logger).runUntilSignal {
            [host = configuration.urlHost] port in
            printNow("listening on http://\(host):\(port)")
        }
    }
}
