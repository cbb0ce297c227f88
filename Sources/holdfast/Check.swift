import ArgumentParser
import HoldfastServer

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look at a configuration file without starting anything.",
        discussion:
            "Names every wrong or unknown key with its line. Exit code 0 means that the gateway would start with it."
    )

    @Argument(help: ArgumentHelp("YAML file with the configuration.", valueName: "file"))
    var file: String

    func run() throws {
        let configuration = try ConfigurationSource.load(file: self.file, over: Configuration())
        let services = configuration.services.count
        printNow(
            "\(self.file) is fine: \(services) \(services == 1 ? "service" : "services"), "
                + "listening on \(configuration.urlHost):\(configuration.port)."
        )
    }
}
