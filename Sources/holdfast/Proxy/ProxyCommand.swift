import ArgumentParser
import Foundation
import HoldfastFaults
import NIOCore

struct Proxy: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "proxy",
        abstract: "Put a line that can be cut, slowed and broken before a server.",
        discussion: """
            Clients connect to the proxy, the proxy to the server. Without faults it is a plain relay:
              holdfast proxy --to 127.0.0.1:8080 --listen 127.0.0.1:9090

            Pull the cable from a page, while you look at your application:
              holdfast proxy --to 127.0.0.1:8080 --control 127.0.0.1:9091
              then open http://127.0.0.1:9091/

            A proxy that does not let WebSockets through, on a slow line:
              holdfast proxy --to 127.0.0.1:8080 --upgrades 502 --latency-ms 300

            Faults over time:
              printf 'at 5s: cut both\\nat 65s: restore\\n' > lunch.txt
              holdfast proxy --to 127.0.0.1:8080 --script lunch.txt

            Prints one line for everything that happens: seconds since the start, #connection, what. Ctrl-C ends it. \
            All faults, scripts and the control API: docs/faults.md. Exit code 0 after Ctrl-C, 1 if it cannot start, \
            64 if an option is wrong.
            """
    )

    @Option(
        name: .long, help: ArgumentHelp("The server.", valueName: "HOST:PORT"), transform: HostAndPort.init(option:))
    var to: HostAndPort

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where clients connect; port 0 takes a free one. Default: 127.0.0.1:0", valueName: "HOST:PORT"),
        transform: HostAndPort.init(option:))
    var listen = HostAndPort(host: "127.0.0.1", port: 0)

    @Option(name: .long, help: ArgumentHelp("Faults over time.", valueName: "FILE"))
    var script: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A page and an HTTP API that change the faults; open to all who can connect.", valueName: "HOST:PORT"),
        transform: HostAndPort.init(option:))
    var control: HostAndPort?

    @Option(
        name: .long,
        help: ArgumentHelp("Pages that may use the control API from a browser; may be repeated.", valueName: "ORIGIN"))
    var controlOrigin: [String] = []

    @Option(name: .long, help: "Of the jitter: the same seed, the same delays. The default is another one each time.")
    var seed: UInt64?

    @Flag(name: .long, help: "Print only where it listens, and errors.")
    var quiet = false

    @OptionGroup(title: "Faults")
    var options: FaultOptions

    func validate() throws {
        _ = try self.options.faults()
        guard self.to.port > 0 else { throw ValidationError("--to needs a port from 1 to 65535; it is 0.") }
        guard self.controlOrigin.isEmpty || self.control != nil else {
            throw ValidationError("--control-origin is of use only with --control.")
        }
        if let wrong = self.controlOrigin.first(where: { !$0.contains("://") || $0.hasSuffix("/") }) {
            throw ValidationError(
                "--control-origin is what browsers send as Origin, such as http://127.0.0.1:3000, with no path: \"\(wrong)\"."
            )
        }
    }

    func run() async throws {
        let faults = try self.options.faults()
        let script = try self.readScript()
        let log = EventLog()
        let printer = self.quiet ? nil : EventPrinter()
        let say: @Sendable (FaultProxy.Event) -> Void = { event in
            let entry = log.add(event)
            printer?.print(entry)
        }
        let seed = self.seed ?? .random(in: 1...9_999_999)
        let signals = StopSignals()
        let proxy = try await self.startProxy(faults, seed: seed, say: say)
        let control = try await self.startControl(of: proxy, log: log)
        printNow("server \(self.to), faults: \(faults.summary), seed \(seed)")
        if let control, let address = self.control {
            printNow("control on http://\(address.with(port: control.port))/")
        }
        printNow("listening on http://\(self.listen.with(port: proxy.port))")
        let playing = script.map { script in
            Task { await proxy.play(script) { say(FaultProxy.Event(text: $0)) } }
        }
        await signals.first()
        playing?.cancel()
        await control?.shutdown()
        await proxy.shutdown()
        await printer?.finish()
        if printer != nil { printNow(Self.farewell(await proxy.statistics)) }
    }

    // MARK: Starting

    private func readScript() throws -> FaultScript? {
        guard let path = self.script else { return nil }
        do {
            let text = try String(contentsOfFile: path, encoding: .utf8)
            return try FaultScript(text)
        } catch let error as FaultsError {
            throw failure("\(path): \(error). See docs/faults.md, \"Scripts\".")
        } catch {
            throw failure("\(path): cannot be read: \(error.localizedDescription)")
        }
    }

    private func startProxy(
        _ faults: Faults, seed: UInt64, say: @escaping @Sendable (FaultProxy.Event) -> Void
    ) async throws -> FaultProxy {
        var configuration = FaultProxy.Configuration(
            listenHost: self.listen.host, listenPort: self.listen.port, serverHost: self.to.host,
            serverPort: self.to.port)
        configuration.seed = seed
        configuration.onEvent = say
        let proxy: FaultProxy
        do {
            proxy = try await FaultProxy.start(configuration)
        } catch {
            throw failure("cannot listen on \(self.listen): \(error)")
        }
        try await proxy.apply(faults)
        return proxy
    }

    private func startControl(of proxy: FaultProxy, log: EventLog) async throws -> FaultControl? {
        guard let address = self.control else { return nil }
        do {
            return try await FaultControl.start(
                of: proxy, log: log, host: address.host, port: address.port, origins: self.controlOrigin)
        } catch {
            await proxy.shutdown()
            throw failure("cannot listen on \(address) for --control: \(error)")
        }
    }

    private func failure(_ text: String) -> ExitCode {
        printError(text)
        return .failure
    }

    private static func farewell(_ it: FaultProxy.Statistics) -> String {
        """
        \(it.connectionsTotal) connections; \(it.bytesToServer) bytes to the server, \(it.bytesToClient) to clients; \
        lost \(it.bytesSwallowedToServer) and \(it.bytesSwallowedToClient) bytes, \(it.endsSwallowed) ends
        """
    }
}
