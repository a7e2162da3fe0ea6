"""What several methods need and no stage offers. Methods never import each other: what two of them share lies here."""
