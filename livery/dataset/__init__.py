"""From a user's file to tokens with their mask: files, rows, chat templates, encoded examples."""
