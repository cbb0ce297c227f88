import ArgumentParser
import Dispatch
import Foundation
import HoldfastClient
import HoldfastDrills

struct DrillCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drill",
        abstract: "Pull the cable: bring each fault about, and judge what becomes of the events.",
        discussion: """
            Each drill starts a gateway, puts a proxy before it that can do what bad networks do, publishes numbered \
            events every 200 ms, and counts what a client is given.
              holdfast drill                            all drills; --list shows them
              holdfast drill f1 f6-404 --quick          some, with shorter faults and the same limits
              holdfast drill f6                         all kinds of f6

            Your own gateway, with the proxies before it (only the faults that need nothing but the line):
              holdfast drill --url http://gateway.example:8080 --api-key KEY

            Another client, or another server. Commands speak JSON lines: docs/drills.md
              holdfast drill --with 'node examples/drill-clients/holdfast-js.mjs'
              holdfast drill f5 --url ws://127.0.0.1:9000 --with 'python3 client.py' --publish 'python3 publisher.py'

            Exit code 0: all passed. 1: a limit was exceeded. 3: a drill could not judge. 4: all that were run passed, \
            but some could not be run here. 64: wrong options. 130: interrupted.
            """
    )

    @Argument(
        help: ArgumentHelp("Drills, such as f1 or f6-404; f6 means all kinds of it. None: all.", valueName: "name"))
    var names: [String] = []

    @Flag(name: .long, help: "Show all drills with what they do, and run none.")
    var list = false

    @Flag(
        name: .long,
        help:
            "Shorter faults: cuts of 10 s, not 60 s; standing faults are watched for 12 s, not 90 s. The limits stay."
    )
    var quick = false

    @Flag(
        name: .long,
        help: "Longer faults, as the design names them: faults that stand are watched for 15 min, a sleep lasts 10 min."
    )
    var long = false

    @Option(name: .long, help: "The gateway to drill, http:// or ws://. None: one of our own for each drill.")
    var url: String?

    @Option(name: .long, help: "For the server API of --url; else HOLDFAST_API_KEY is used.")
    var apiKey: String?

    @Option(
        name: .long,
        help: ArgumentHelp("The client to drill, a shell's command. None: the Swift client.", valueName: "command"))
    var with: String?

    @Option(
        name: .long, help: ArgumentHelp("Publishes instead of the server API, a shell's command.", valueName: "command")
    )
    var publish: String?

    @Option(name: .long, help: "Service of the subscriptions.")
    var service = "drill"

    @Option(name: .long, help: "Clients of the drills that need many (f10, f11, f13). None: 1000, with --with 20.")
    var clients: Int?

    @Flag(name: .long, help: "Do not tell the client that the line is back: it then has until its next attempt.")
    var noWake = false

    @Option(name: .long, help: "Drills that run side by side.")
    var atOnce = 8

    @Flag(name: .long, help: "Print one JSON document instead of the table.")
    var json = false

    @Option(name: .long, help: ArgumentHelp("Write the results for a CI system.", valueName: "file"))
    var junit: String?

    func validate() throws {
        for name in self.names where Drill.named(name).isEmpty {
            throw ValidationError("There is no drill \"\(name)\". `holdfast drill --list` shows all.")
        }
        if self.quick, self.long { throw ValidationError("--quick and --long exclude each other.") }
        guard (1...64).contains(self.atOnce) else {
            throw ValidationError("--at-once must be from 1 to 64, but is \(self.atOnce).")
        }
        if let clients = self.clients, !(1...10_000).contains(clients) {
            throw ValidationError("--clients must be from 1 to 10000, but is \(clients).")
        }
        if let url = self.url { try Self.validate(url: url) }
        guard !self.service.isEmpty, !self.service.contains(".") else {
            throw ValidationError("--service is a name without a dot, but is \"\(self.service)\".")
        }
    }

    private static func validate(url: String) throws {
        do {
            let address = try GatewayURL(url)
            guard !address.isSecure else {
                throw ValidationError(
                    "--url: a fault proxy cannot stand in an encrypted line, since its name is not in the certificate. "
                        + "Name the address behind what ends TLS.")
            }
        } catch let error as GatewayURL.Invalid {
            throw ValidationError("--url: \(error)")
        }
    }

    func run() async throws {
        // A command that has ended must not end the drills with it.
        signal(SIGPIPE, SIG_IGN)
        let drills =
            self.names.isEmpty
            ? Drill.all
            : Drill.all.filter { drill in
                self.names.contains { Drill.named($0).contains { $0.name == drill.name } }
            }
        if self.list {
            for drill in drills { printNow(DrillTable.listed(drill)) }
            return
        }
        let signals = [SIGINT, SIGTERM].map(Self.endOn)
        defer { for signal in signals { signal.cancel() } }
        let watch = DrillWatch(drills: drills)
        let started = Date()
        let runner = DrillRunner(settings: try self.settings, atOnce: self.atOnce) { watch.saw($0) }
        let results = await runner.run(drills)
        DrillRunner.killAll()
        watch.end()
        if let junit = self.junit { try self.write(DrillReport.junit(results, started: started), to: junit) }
        printNow(
            self.json
                ? DrillReport.json(results, settings: try self.settings, started: started) : DrillTable.text(results))
        let code = DrillReport.exitCode(results)
        guard code == 0 else { throw ExitCode(code) }
    }

    private var settings: DrillSettings {
        get throws {
            guard let executable = Bundle.main.executablePath else {
                throw ValidationError("The path of this program cannot be found, so it cannot start gateways.")
            }
            var settings = DrillSettings(executable: executable)
            settings.pace = self.quick ? .quick : self.long ? .long : .normal
            settings.url = self.url
            settings.apiKey = self.apiKey ?? ProcessInfo.processInfo.environment["HOLDFAST_API_KEY"]
            settings.with = self.with
            settings.publish = self.publish
            settings.service = self.service
            settings.clients = self.clients
            settings.wakes = !self.noWake
            return settings
        }
    }

    private func write(_ text: String, to file: String) throws {
        do {
            try text.write(toFile: file, atomically: true, encoding: .utf8)
        } catch {
            printError("\(file) cannot be written: \(error.localizedDescription)")
            throw ExitCode(3)
        }
    }

    /// Nothing that was started stays behind.
    private static func endOn(_ number: CInt) -> any DispatchSourceSignal {
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler {
            DrillRunner.killAll()
            Foundation.exit(128 + number)
        }
        source.resume()
        return source
    }
}
