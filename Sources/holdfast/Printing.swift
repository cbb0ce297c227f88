import Foundation
import HoldfastServer

/// Prints a line at once, also when standard output is a pipe.
func printNow(_ text: String) {
    FileHandle.standardOutput.write(Data((text + "\n").utf8))
}

func printError(_ text: String) {
    FileHandle.standardError.write(Data((text + "\n").utf8))
}

extension Configuration {
    /// The host as it stands in a URL that a person on this machine can open.
    var urlHost: String {
        switch self.host {
        case "0.0.0.0": "127.0.0.1"
        case "::": "[::1]"
        case let host where host.contains(":"): "[\(host)]"
        default: self.host
        }
    }
}
